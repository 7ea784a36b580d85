"""A headless Chromium driven over two pipes with the DevTools protocol; the standard library suffices."""

import base64
import json
import os
import select
import signal
import subprocess
import tempfile
import time

# No service of the browser's own may call home.
FLAGS = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--no-zygote",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
]


class BrowserError(Exception):
    """The browser did not start, died, hung, or refused a command."""


class Browser:
    """A running browser; a context manager that ends it."""

    def __init__(self, program, environment=None, timeout=30.0):
        self.timeout = timeout
        self.profile = tempfile.TemporaryDirectory(prefix="w2s-browser-", ignore_cleanup_errors=True)
        self.log = tempfile.TemporaryFile()
        read_commands, self.commands = os.pipe()
        self.answers, write_answers = os.pipe()

        def descriptors():
            # Chromium reads from 3 and writes to 4; copies first, either may be in the other's place.
            ours, theirs = os.dup(read_commands), os.dup(write_answers)
            os.dup2(ours, 3)
            os.dup2(theirs, 4)

        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self.profile.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, **(environment or {})},
            close_fds=False,
            preexec_fn=descriptors,
            start_new_session=True,
        )
        os.close(read_commands)
        os.close(write_answers)
        self.buffer = b""
        self.number = 0
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.commands)
        os.close(self.answers)
        self.log.close()
        self.profile.cleanup()

    def send(self, method, parameters=None, session=None):
        """The result of a command; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters or {}}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        try:
            while data:
                data = data[os.write(self.commands, data) :]
        except BrokenPipeError:
            raise self.failed("the browser has ended") from None
        end = time.monotonic() + self.timeout
        while True:
            answer = self.receive(end, method)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def receive(self, end, waiting_for):
        """The next message; an error when none comes before `end`."""
        while b"\0" not in self.buffer:
            if not select.select([self.answers], [], [], max(0.0, end - time.monotonic()))[0]:
                raise self.failed(f"no answer to {waiting_for} within {self.timeout:.0f} s")
            data = os.read(self.answers, 1 << 20)
            if not data:
                raise self.failed("the browser has ended")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def wait(self, method):
        """The first event of a name, also one that came already; it is taken from `events`."""
        end = time.monotonic() + self.timeout
        while True:
            for index, event in enumerate(self.events):
                if event.get("method") == method:
                    return self.events.pop(index)["params"]
            self.events.append(self.receive(end, method))

    def failed(self, reason):
        """An error with the last words of the browser."""
        self.log.seek(0)
        words = self.log.read().decode(errors="replace").strip().splitlines()[-5:]
        return BrowserError("\n".join([reason, *words]))

    def page(self):
        """A new empty page."""
        return Page(self)


class Page:
    """A tab, with what it logged and asked for."""

    def __init__(self, browser):
        self.browser = browser
        target = browser.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = browser.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        self.session = attached["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """The result of a command to this page."""
        return self.browser.send(method, parameters, self.session)

    def look(self, width, height, scheme="light", media="screen"):
        """Sets the window's size, the colour scheme and the medium."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, url):
        """Opens an address and waits until it is loaded."""
        self.browser.events.clear()
        answer = self.send("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self.browser.wait("Page.loadEventFired")

    def run(self, script):
        """The value of an expression, waited for where it is a promise."""
        answer = self.send(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def press(self, key, code, text=""):
        """Presses and releases a key."""
        for kind in ["keyDown", "keyUp"]:
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key if len(key) > 1 else "",
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    def picture(self, path, whole=False):
        """Writes what is seen, or the whole page, to a PNG file."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(answer["data"]))

    def complaints(self):
        """What was logged as an error or a warning, and exceptions, since the page was opened."""
        said = []
        for event in self.browser.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                said.append(details.get("exception", {}).get("description", details["text"]))
            elif method == "Runtime.consoleAPICalled":
                if parameters["type"] in ("error", "warning", "assert"):
                    words = [word.get("value", word.get("description")) for word in parameters["args"]]
                    said.append(f"{parameters['type']}: {words}")
            elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                said.append(parameters["entry"]["text"])
        return said

    def requests(self):
        """The addresses asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
