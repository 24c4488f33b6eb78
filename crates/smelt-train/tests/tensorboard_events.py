"""Prints the bytes that the tests of `src/metrics/event_file.rs` expect.

Made with tensorboard 2.21.0: `python tensorboard_events.py`.
"""

import io

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

frame = io.BytesIO()
RecordWriter(frame).write(b"smelt")
print("frame", list(frame.getvalue()))

scalar = Event(wall_time=1.5, step=7)
scalar.summary.value.add(tag="train/loss", simple_value=2.5)
print("scalar", list(scalar.SerializeToString()))

text = Event(wall_time=1.5, step=7)
value = text.summary.value.add(tag="s/text_summary")
value.metadata.plugin_data.plugin_name = "text"
value.tensor.dtype = 7
value.tensor.tensor_shape.dim.add(size=1)
value.tensor.string_val.append(b"    a\n")
print("text", list(text.SerializeToString()))

session = Event(wall_time=1.5, step=7)
session.session_log.status = 1
print("session", list(session.SerializeToString()))
