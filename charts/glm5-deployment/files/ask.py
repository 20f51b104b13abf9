"""What `helm test` runs: asks the model one question until it answers or patience ends. Standard library only."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

url = f"http://{os.environ['SERVICE']}/v1/chat/completions"
body = {
    "model": os.environ["MODEL"],
    "messages": [{"role": "user", "content": os.environ["QUESTION"]}],
    "max_tokens": 64,
}
headers = {"content-type": "application/json"}
if os.path.exists("/keys/keys"):
    with open("/keys/keys") as file:
        headers["authorization"] = f"Bearer {file.readline().strip()}"
until = time.monotonic() + float(os.environ["PATIENCE_SECONDS"])
while True:
    try:
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            answer = json.load(response)
        print(json.dumps(answer, indent=1))
        sys.exit(0 if answer["usage"]["completion_tokens"] > 0 else f"{url} answered without a token")
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.read().decode(errors='replace')}"
        if error.code < 500 and error.code != 429:
            sys.exit(f"{url} refused the question: {reason}")
    except OSError as error:
        reason = str(error)
    if time.monotonic() > until:
        sys.exit(f"{url} gave no answer: {reason}; see kubectl describe glm5")
    print(f"not yet: {reason}", flush=True)
    time.sleep(2)
