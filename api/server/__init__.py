"""The server: uvicorn's protocol with our guards, deadlines and orderly stop around it."""
