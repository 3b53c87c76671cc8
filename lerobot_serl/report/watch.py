"""The report of a run that goes on, served to browsers: what happens now is read for each look, figures are drawn now and then beside it."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from lerobot_serl.report.curves import WrittenCurves, write_curves
from lerobot_serl.report.markup import PAGE_END, figure_html, page_head, text_html
from lerobot_serl.report.metrics_files import MetricsDirectory, MetricsFormatError, MissingMetricsError, RunMetrics
from lerobot_serl.report.now import now_html
from lerobot_serl.report.page import summarise

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DRAWN_EVERY_S = 30.0
DRAWING_SHARE = 0.05
"""Of the time of one core that drawing may take: a learner may run on the same machine."""
CONNECTION_TIMEOUT_S = 10.0
LONGEST_DRAWING_S = 30.0


class Watch:
    """Serves one page until it is closed.

    Args:
        run_dir: directory that holds metrics/; they may come later.
        host, port: to listen at; port 0: any that is free.
        every_s: after which browsers look again.

    Raises:
        OSError: the port cannot be opened.
    """

    def __init__(self, run_dir: Path, host: str, port: int, every_s: float) -> None:
        self._run_dir = run_dir
        self._every_s = every_s
        self._figures = ""
        self._closed = threading.Event()
        self._hosts = None if host not in LOOPBACK else LOOPBACK
        try:
            self._server = ThreadingHTTPServer((host, port), type("Handler", (_Handler,), {"watch": self}))
        except OSError as error:
            raise OSError(f"port {port} of {host}: {error.strerror or error}. --port=0 takes any that is free.") from error
        self._server.daemon_threads = True
        self._drawer = threading.Thread(target=self._draw_again_and_again, name="figures", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def serve(self) -> None:
        """Until :meth:`close`, or an exception such as KeyboardInterrupt."""
        self._drawer.start()
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self._closed.set()
            self._server.server_close()
            self._drawer.join(LONGEST_DRAWING_S)  # a thread in the middle of an import cannot end with the interpreter

    def close(self) -> None:
        """End :meth:`serve`, from another thread."""
        self._server.shutdown()

    def allows(self, host: str | None) -> bool:
        """Whether a request was meant for this server: a page of a stranger can make browsers ask loopback under the stranger's own name."""
        name = urlsplit(f"//{host}").hostname if host else None
        return self._hosts is None or name in self._hosts

    def page(self) -> str:
        """As it is now."""
        name = self._run_dir.resolve().name
        clock = datetime.now().astimezone().strftime("%H:%M:%S")
        parts = [page_head(f"{escape(name)} - now", self._every_s), f"<h1>{escape(name)}</h1>\n"]
        try:
            metrics = MetricsDirectory(self._run_dir).load()
        except MissingMetricsError:
            parts.append('<p class="phase">Waiting for the first episode of the run.</p>\n')
        except MetricsFormatError as error:
            parts.append(f'<p class="alarm">{text_html(str(error))}</p>\n')
        else:
            parts.append(now_html(self._run_dir, metrics))
            parts.append('<div class="summary">' + "".join(f"<p>{text_html(line)}</p>" for line in summarise(metrics)) + "</div>\n")
            parts.append(self._figures)
        parts.append(f'<p class="note">Read at {clock}; this page looks again every {self._every_s:g} s.</p>\n{PAGE_END}')
        return "".join(parts)

    def _draw_again_and_again(self) -> None:
        drawn_of: tuple[float, ...] = ()
        while not self._closed.is_set():
            files, began_s = MetricsDirectory(self._run_dir), time.monotonic()
            written = tuple(path.stat().st_mtime for path in (files.learner, files.episodes, files.evaluations) if path.is_file())
            if written != drawn_of:
                drawn_of = written
                self._draw(files)
            self._closed.wait(max(DRAWN_EVERY_S, (time.monotonic() - began_s) / DRAWING_SHARE) if self._figures else 1.0)

    def _draw(self, files: MetricsDirectory) -> None:
        try:
            metrics: RunMetrics = files.load()
            curves: WrittenCurves = write_curves(metrics, self._run_dir / "report")
        except (MissingMetricsError, MetricsFormatError):
            return  # the page says it
        except OSError as error:
            self._figures = f'<p class="alarm">The figures cannot be written: {text_html(str(error))}</p>\n'
            return
        clock = datetime.now().astimezone().strftime("%H:%M:%S")
        self._figures = f'<p class="note">Figures of {clock}.</p>\n' + "".join(figure_html(figure) for figure in curves.figures)


class _Handler(BaseHTTPRequestHandler):
    watch: Watch
    timeout = CONNECTION_TIMEOUT_S
    server_version, sys_version = "lerobot-serl-report", ""

    def do_GET(self) -> None:
        if not self.watch.allows(self.headers.get("Host")):
            self.send_error(403, "This page is for this machine")
        elif self.path.partition("?")[0] != "/":
            self.send_error(404)
        else:
            body = self.watch.page().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""
