//! TensorBoard's event files: scalars and texts of a run, each record framed as in a TFRecord file.
//!
//! One file per process, which begins with the step from which readers forget what files before it hold
//! (PyTorch's `purge_step`).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;
use serde_json::Value;

use super::messages::{
    DataType, Datum, Dim, Event, PluginData, SessionLog, SessionStatus, Summary, SummaryMetadata,
    SummaryValue, TensorProto, TensorShape, What,
};
use super::record::Record;
use crate::TrainError;

const FILE_PREFIX: &str = "events.out.tfevents.";
/// The first version whose readers heed a session's start.
const FILE_VERSION: &str = "brain.Event:2";

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins the file of a process that goes on after `steps` steps.
    pub fn create(folder: &Path, steps: u64) -> Result<Self, TrainError> {
        fs::create_dir_all(folder).map_err(TrainError::io("create", folder))?;
        // Readers go by the names: this one comes after all before, even of the same second.
        let begun = (seconds_now() as u64).max(newest(folder)? + 1);
        let path = folder.join(format!("{FILE_PREFIX}{begun:010}.smelt"));
        let file = File::create_new(&path).map_err(TrainError::io("create", &path))?;
        let mut events = Self { path, file };
        events.append(0, What::FileVersion(FILE_VERSION.to_owned()))?;
        // From the second start on, readers forget what other files hold of this step and later ones.
        let status = SessionStatus::Start.into();
        events.append(steps + 1, What::SessionLog(SessionLog { status }))?;
        Ok(events)
    }

    /// Appends what TensorBoard can show of a record.
    pub fn write(&mut self, record: &Record) -> Result<(), TrainError> {
        let fields = serde_json::to_value(record).expect("a record is plain data");
        let word = |key: &str| fields[key].as_str().unwrap_or_default();
        let values = match word("kind") {
            "begins" => vec![text("config", &outlined(&fields["config"]))],
            "sample" => {
                let tag = format!("sample/{}", fields["prompt_index"]);
                vec![text(&tag, &format!("{}{}", word("prompt"), word("text")))]
            }
            "validation" => scalars("eval", &fields),
            kind => scalars(kind, &fields),
        };
        self.append(fields["step"].as_u64().unwrap_or_default(), What::Summary(Summary { values }))
    }

    fn append(&mut self, step: u64, what: What) -> Result<(), TrainError> {
        let event = Event { wall_time: seconds_now(), step: step as i64, what: Some(what) };
        self.file.write_all(&framed(&event.encode_to_vec())).map_err(TrainError::io("write", &self.path))
    }
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The time in the name of the newest event file, or 0.
fn newest(folder: &Path) -> Result<u64, TrainError> {
    let entries = fs::read_dir(folder).map_err(TrainError::io("read", folder))?;
    let time = |name: &str| name.strip_prefix(FILE_PREFIX)?.split('.').next()?.parse().ok();
    let times = entries.flatten().filter_map(|entry| time(entry.file_name().to_str()?));
    Ok(times.max().unwrap_or(0))
}

/// A TFRecord: length, its checksum, the bytes, their checksum.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length, &masked_crc(&length)[..], bytes, &masked_crc(bytes)].concat()
}

/// CRC-32C, rotated and offset so that checksums of data that holds checksums stay strong.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Every number of a record, as `GROUP/KEY`: the names that transformers' trainer gives them.
fn scalars(group: &str, fields: &Value) -> Vec<SummaryValue> {
    let numbers = fields.as_object().into_iter().flatten().filter(|(key, _)| *key != "step");
    let scalar = |(key, value): (&String, &Value)| {
        let datum = Some(Datum::SimpleValue(value.as_f64()? as f32));
        Some(SummaryValue { tag: format!("{group}/{key}"), metadata: None, datum })
    };
    numbers.filter_map(scalar).collect()
}

/// A text, as it stands: TensorBoard would take it for Markdown.
fn text(tag: &str, content: &str) -> SummaryValue {
    let verbatim: String = content.lines().map(|line| format!("    {line}\n")).collect();
    let plugin_data = Some(PluginData { plugin_name: "text".to_owned() });
    let tensor = TensorProto {
        dtype: DataType::String.into(),
        tensor_shape: Some(TensorShape { dims: vec![Dim { size: 1 }] }),
        string_val: vec![verbatim.into_bytes()],
    };
    SummaryValue {
        tag: format!("{tag}/text_summary"),
        metadata: Some(SummaryMetadata { plugin_data }),
        datum: Some(Datum::Tensor(tensor)),
    }
}

/// Settings by section, a line each.
fn outlined(config: &Value) -> String {
    let mut lines = String::new();
    for (section, keys) in config.as_object().into_iter().flatten() {
        lines += &format!("{section}:\n");
        for (key, value) in keys.as_object().into_iter().flatten() {
            lines += &format!("  {key}: {value}\n");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `tests/tensorboard_events.py` prints them.
    #[test]
    fn records_are_the_bytes_that_tensorboard_writes() {
        let frame = [5, 0, 0, 0, 0, 0, 0, 0, 234, 178, 4, 62, 115, 109, 101, 108, 116, 225, 223, 105, 40];
        assert_eq!(framed(b"smelt"), frame);

        let event = |what| Event { wall_time: 1.5, step: 7, what: Some(what) }.encode_to_vec();
        let datum = Some(Datum::SimpleValue(2.5));
        let values = vec![SummaryValue { tag: "train/loss".to_owned(), metadata: None, datum }];
        let scalar = [
            9, 0, 0, 0, 0, 0, 0, 248, 63, 16, 7, 42, 19, 10, 17, 10, 10, 116, 114, 97, 105, 110, 47, 108,
            111, 115, 115, 21, 0, 0, 32, 64,
        ];
        assert_eq!(event(What::Summary(Summary { values })), scalar);
        let texts = [
            9, 0, 0, 0, 0, 0, 0, 248, 63, 16, 7, 42, 46, 10, 44, 10, 14, 115, 47, 116, 101, 120, 116, 95,
            115, 117, 109, 109, 97, 114, 121, 66, 16, 8, 7, 18, 4, 18, 2, 8, 1, 66, 6, 32, 32, 32, 32, 97,
            10, 74, 8, 10, 6, 10, 4, 116, 101, 120, 116,
        ];
        assert_eq!(event(What::Summary(Summary { values: vec![text("s", "a")] })), texts);
        let session = [9, 0, 0, 0, 0, 0, 0, 248, 63, 16, 7, 58, 2, 8, 1];
        let status = SessionStatus::Start.into();
        assert_eq!(event(What::SessionLog(SessionLog { status })), session);
    }

    #[test]
    fn a_later_process_has_the_later_file() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> =
            (0..3).map(|steps| EventFile::create(folder.path(), steps).unwrap().path).collect();
        assert!(files.is_sorted() && files[0] != files[1] && files[1] != files[2], "{files:?}");
    }
}
