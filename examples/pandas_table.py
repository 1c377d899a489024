"""The median speed of each person's wrists: python pandas_table.py results.jsonl"""

import sys

from hrtrack import to_dataframe

table = to_dataframe(sys.argv[1])
wrists = table[table.joint.str.endswith("_wrist") & (table.score > 0.3)]
wrists = wrists.sort_values("time")
steps = wrists.groupby(["id", "joint"])[["time", "x", "y"]].diff()
wrists = wrists.assign(speed=(steps.x**2 + steps.y**2) ** 0.5 / steps.time)
print(wrists.groupby(["id", "joint"]).speed.median().rename("pixels a second"))
