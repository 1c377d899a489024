class CutDetector:
    def update(self, image): return False
