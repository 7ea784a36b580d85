//! Tensors to safetensors files, one at a time, all or nothing; and back.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::run::AtomicFile;

/// Writes `tensors` in their order and number types such that a reader, or a kill, finds the old
/// file or the new, never a part. `note` is a text that travels in the header.
///
/// # Errors
/// [`ErrorKind::Io`], and [`ErrorKind::Internal`] for a number type that the format lacks.
///
/// # Cost
/// Memory for one tensor at a time.
pub(crate) fn write_tensors(
    path: &Path,
    tensors: &[(String, Tensor)],
    note: Option<&str>,
) -> Result<()> {
    let mut header = Map::new();
    let mut metadata = json!({ "format": "pt" });
    if let Some(note) = note {
        metadata["note"] = note.into();
    }
    header.insert("__metadata__".into(), metadata);
    let mut end = 0;
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Float => "F32",
            Kind::Half => "F16",
            Kind::BFloat16 => "BF16",
            other => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("tensor `{name}` holds {other:?}"),
                ));
            }
        };
        let begin = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        header.insert(
            name.clone(),
            json!({ "dtype": dtype, "shape": tensor.size(), "data_offsets": [begin, end] }),
        );
    }
    let mut header = Value::Object(header).to_string();
    // The data begins on a multiple of eight bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let io = |e: std::io::Error| Error::io("write", path, &e);
    let mut file = BufWriter::new(AtomicFile::create(path).map_err(io)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(header.as_bytes()).map_err(io)?;
    for (_, tensor) in tensors {
        file.write_all(&bytes_of(tensor)?).map_err(io)?;
    }
    let file = file.into_inner().map_err(|e| io(e.into_error()))?;
    file.commit().map_err(io)
}

fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.detach().f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?;
    if tensor.kind() == Kind::Float {
        let values: Vec<f32> = Vec::try_from(flat)?;
        return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }
    let values: Vec<i16> = Vec::try_from(flat.f_view_dtype(Kind::Int16)?)?;
    Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// Returns the tensors of a file in f32 by name, and its note.
///
/// # Errors
/// [`ErrorKind::Io`], and [`ErrorKind::Checkpoint`] for a damaged file or numbers that are not
/// finite.
pub(crate) fn read_tensors(path: &Path) -> Result<(HashMap<String, Tensor>, Option<String>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let fail = |message: String| Error::new(ErrorKind::Checkpoint, message).at(path);
    let broken = |e| fail(format!("not a complete safetensors file: {e}"));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let tensors = file
        .iter()
        .map(|(name, view)| match tensor_of(&view) {
            Ok(tensor) => Ok((name.to_owned(), tensor)),
            Err(message) => Err(fail(format!("tensor `{name}` {message}"))),
        })
        .collect::<Result<_>>()?;
    let note = metadata.metadata().as_ref().and_then(|m| m.get("note").cloned());
    Ok((tensors, note))
}

/// Returns a tensor of a safetensors file in f32 on the CPU, or what is wrong with it.
pub(super) fn tensor_of(view: &TensorView<'_>) -> Result<Tensor, String> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => return Err(format!("holds {other:?}, expected F32, F16 or BF16")),
    };
    let size: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    let read = || -> std::result::Result<(Tensor, bool), tch::TchError> {
        let tensor = Tensor::f_from_data_size(view.data(), &size, kind)?.f_to_kind(Kind::Float)?;
        let finite = tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1;
        Ok((tensor, finite))
    };
    match read() {
        Ok((tensor, true)) => Ok(tensor),
        Ok((_, false)) => Err("holds NaN or infinity".into()),
        Err(e) => Err(format!("cannot be read: {}", Error::from(e).message())),
    }
}
