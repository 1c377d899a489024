"""The angle of everybody's left knee over time: python knee_angle.py results.jsonl

Writes knee.csv, with one column per person, and knee.png. 180 degrees is a straight leg; a joint
with a score of 0.3 or less leaves a gap. The plot shows medians over five frames.
"""

import sys

import numpy as np

from hrtrack import to_dataframe

table = to_dataframe(sys.argv[1])
table["at"] = (table.x + 1j * table.y).where(table.score > 0.3)
legs = table.pivot(index=["time", "id"], columns="joint", values="at")
thigh, shank = legs.left_hip - legs.left_knee, legs.left_ankle - legs.left_knee
legs["degrees"] = np.abs(np.angle(thigh * np.conj(shank), deg=True))
knees = legs.degrees.unstack("id")
knees.to_csv("knee.csv")
medians = knees.rolling(5, center=True, min_periods=3).median()
plot = medians.plot(xlabel="time in seconds", ylabel="left knee in degrees")
plot.figure.savefig("knee.png", dpi=150)
