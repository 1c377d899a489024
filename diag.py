import sys,json,random,tempfile; sys.path.insert(0,'/work/main')
from pathlib import Path
from hrtrack.tracker.detect import open_detector
from hrtrack.train.metrics.detection import *
names=sys.argv[1:]
dets={Path(n).stem:open_detector(n,threads=1,min_score=0.01) for n in names}
S=Path('/work/shared/data')
def sub(a,n,seed=0,true=False):
    d=json.loads(Path(a).read_text()); random.Random(seed).shuffle(d['images']); d['images']=d['images'][:n]
    ids={i['id'] for i in d['images']}; d['annotations']=[x for x in d['annotations'] if x['image_id'] in ids]
    if true:
        for x in d['annotations']:
            if x['score']>=0.5: x.pop('pseudo'); x['num_keypoints']=max(1,x.get('num_keypoints',1))
    p=Path(tempfile.mktemp(suffix='.json')); p.write_text(json.dumps(d)); return p
for t,a,f in (('COCO train',S/'coco/person_keypoints_train.json',S/'coco/images'),('COCO val',S/'coco/person_keypoints_val.json',S/'coco/images'),('everyday train 200',sub(S/'everyday/pseudo.json',200,true=True),S/'everyday/images'),('LSPE train 200',sub(S/'lspet/train.json',200),S/'lspet/images'),('LSPE val',S/'lspet/val.json',S/'lspet/images')):
    r=evaluate_detectors(dets,load_people(a),f)
    x=next(iter(r.values())); print('\n',t,x.photos,x.people); print(table(r),flush=True)
