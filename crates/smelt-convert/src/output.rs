//! Where a conversion goes: a folder that is whole or not there, and how far it is.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use smelt_model::CONFIG_FILE;
use smelt_model::weights::{INDEX_FILE, TORCH_INDEX_FILE, TORCH_WEIGHTS_FILE, WEIGHTS_FILE};

use crate::{ConvertError, Parameter};

/// How far a conversion is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The tensor that is written next.
    pub tensor: &'a str,
    /// Bytes of those before it.
    pub done_bytes: u64,
    /// Bytes of all.
    pub total_bytes: u64,
}

/// Refuses a folder or a file that already holds a model, with whatever is in it.
///
/// # Errors
/// [`ConvertError::OutputExists`].
pub fn check_output(path: &Path) -> Result<(), ConvertError> {
    let names = [CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, TORCH_WEIGHTS_FILE, TORCH_INDEX_FILE, "model.onnx"];
    if path.is_file() || names.iter().any(|name| path.join(name).exists()) {
        return Err(ConvertError::OutputExists { path: path.to_owned() });
    }
    Ok(())
}

/// Fills a new folder beside `folder` by `write`, and puts it in its place once it is whole.
///
/// A folder that is there already gets the files one by one, the configuration last: without it, it is no model. Those
/// in it stay as they are: `names` are looked for before the work.
///
/// # Errors
/// Those of `write`, [`ConvertError::FileExists`], and [`ConvertError::Io`]; nothing is left behind then.
pub(crate) fn write_whole_folder<'a, T>(
    folder: &Path,
    names: impl Iterator<Item = &'a str>,
    write: impl FnOnce(&Path) -> Result<T, ConvertError>,
) -> Result<T, ConvertError> {
    check_output(folder)?;
    check_absent(folder, names)?;
    let exists = folder.exists();
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What is there may be another file system than its parent.
    let around = if exists { folder } else { parent };
    fs::create_dir_all(around).map_err(ConvertError::io("write", around))?;
    let temporary = tempfile::Builder::new()
        .prefix(".smelt-")
        .tempdir_in(around)
        .map_err(ConvertError::io("write", around))?;
    let result = write(temporary.path())?;
    let failed = ConvertError::io("write", folder);
    if exists {
        let written = file_names(temporary.path()).map_err(ConvertError::io("read", temporary.path()))?;
        check_absent(folder, written.iter().map(String::as_str))?;
        move_files(temporary.path(), folder).map_err(failed)?;
    } else {
        share(temporary.path()).and_then(|()| fs::rename(temporary.path(), folder)).map_err(failed)?;
        // There is nothing left to remove.
        let _ = temporary.keep();
    }
    Ok(result)
}

fn check_absent<'a>(folder: &Path, mut names: impl Iterator<Item = &'a str>) -> Result<(), ConvertError> {
    match names.find(|name| folder.join(name).exists()) {
        Some(name) => Err(ConvertError::FileExists { path: folder.join(name) }),
        None => Ok(()),
    }
}

fn file_names(folder: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Temporary folders are private to their owner; a model is readable like any other.
#[cfg(unix)]
fn share(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn share(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn move_files(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut paths = fs::read_dir(from)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<PathBuf>, _>>()?;
    paths.sort_by_key(|path| path.file_name().is_some_and(|name| name == CONFIG_FILE));
    for path in paths {
        fs::rename(&path, to.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Refuses a parameter with a value beyond the range of `dtype`, which would become infinite.
pub(crate) fn check_range(parameter: &Parameter<'_>, dtype: Dtype) -> Result<(), ConvertError> {
    const MOST: f32 = 65504.0 + 15.99;
    if dtype != Dtype::F16 || parameter.dtype() == Dtype::F16 {
        return Ok(());
    }
    let values = parameter.values();
    match values.iter().position(|value| value.is_nan() || value.abs() > MOST) {
        None => Ok(()),
        Some(index) => {
            let name = parameter.info().key.clone();
            Err(ConvertError::OutOfRange { name, index, value: values[index], dtype: "f16" })
        }
    }
}
