"""What libjpeg says stays out of stderr; what anybody else says, and Python, does not."""

import subprocess
import sys

SCRIPT = """
import ctypes, sys, threading
from serving.process.decoder_messages import without_decoder_messages

libc = ctypes.CDLL(None)
stderr = ctypes.c_void_p.in_dll(libc, "stderr")
def say(text):
    libc.fputs(text.encode() + b"\\n", ctypes.c_void_p(stderr.value))

say("native before")
with without_decoder_messages():
    say("Corrupt JPEG data: premature end of data segment")
    print("python within", file=sys.stderr, flush=True)
    with without_decoder_messages():
        say("E0000 00:00:1796067250.316778   18809 jpeg_mem.cc:331] Premature end of JPEG data. Stopped at line 328/3")
    say("E0000 00:00:1796067250.316778   18809 cuda_platform.cc:52] the device is lost")
say("native after")
"""


def test_only_what_decoders_say_is_held_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [
        "native before",
        "python within",
        "E0000 00:00:1796067250.316778   18809 cuda_platform.cc:52] the device is lost",
        "native after",
    ]
