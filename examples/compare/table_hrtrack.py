"""A clip's joints with identities as a table: python table_hrtrack.py clip.mp4 out.csv

The command `hrtrack clip.mp4 --save out.csv` writes one row a person instead of one a joint.
"""

import sys

from hrtrack import Tracker, to_dataframe

with Tracker() as tracker:
    to_dataframe(tracker.track(sys.argv[1])).to_csv(sys.argv[2], index=False)
