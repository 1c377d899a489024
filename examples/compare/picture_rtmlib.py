"""The keypoints of everybody in a picture: python picture_rtmlib.py photo.jpg"""

import sys

import cv2
from rtmlib import Body

print(Body()(cv2.imread(sys.argv[1]))[0])
