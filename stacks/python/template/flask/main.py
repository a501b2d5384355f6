import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def root():
    return {"message": "Project {{project_id}} running"}


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=int(os.environ.get("PORT", "{{port}}")))
