"""Poses as a web service: uvicorn fastapi_endpoint:app

Then: curl --data-binary @photo.jpg http://localhost:8000/poses
"""

import asyncio
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from hrtrack import HrtrackError, Tracker

app, tracker = FastAPI(), Tracker()


@app.post("/poses")
async def poses(request: Request) -> dict[str, Any]:
    try:
        found = await asyncio.to_thread(tracker.image, await request.body())
    except HrtrackError as error:
        raise HTTPException(422, str(error)) from None
    return found.to_dict()
