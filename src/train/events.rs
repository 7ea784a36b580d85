//! TensorBoard's event files: records of numbers by step.
//!
//! # Source
//! The record format of tensorflow's `record_writer.h` (length, masked CRC-32C, data, masked
//! CRC-32C) and the fields of `event.proto` and `summary.proto` that hold plain numbers.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::trainer::StepReport;
use crate::error::{Error, Result};
use crate::run::create_anew;

/// An event file, open for writing.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Returns a new event file in `folder`; TensorBoard reads all of a folder as one.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`].
    pub fn create(folder: &Path) -> Result<Self> {
        let now = now();
        let path = folder.join(format!(
            "events.out.tfevents.{:010}.w2s.{}",
            now as u64,
            std::process::id()
        ));
        let file = create_anew(&path).map_err(|e| Error::io("write", &path, &e))?;
        let mut events = Self { path, file };
        let mut event = Vec::new();
        double(&mut event, 1, now);
        bytes(&mut event, 3, b"brain.Event:2");
        events.write(&event)?;
        Ok(events)
    }

    /// Adds what a training step came to.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`].
    pub fn step(&mut self, report: &StepReport, tokens_per_second: f64) -> Result<()> {
        let numbers = [
            ("train/loss", report.loss),
            ("train/grad_norm", report.grad_norm),
            ("train/lr", report.lr),
            ("train/tokens_per_second", tokens_per_second),
        ];
        self.scalars(report.step, &numbers)
    }

    /// Adds numbers by name at a step.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Io`].
    pub fn scalars(&mut self, step: usize, numbers: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (name, number) in numbers {
            let mut value = Vec::new();
            bytes(&mut value, 1, name.as_bytes());
            tag(&mut value, 2, 5);
            value.extend((*number as f32).to_le_bytes());
            bytes(&mut summary, 1, &value);
        }
        let mut event = Vec::new();
        double(&mut event, 1, now());
        tag(&mut event, 2, 0);
        varint(&mut event, step as u64);
        bytes(&mut event, 5, &summary);
        self.write(&event)
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).map_err(|e| Error::io("write", &self.path, &e))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn tag(out: &mut Vec<u8>, field: u64, wire: u64) {
    varint(out, field << 3 | wire);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    tag(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    tag(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// Returns the record that holds `data`.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked(data).to_le_bytes());
    out
}

fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, bit by bit: the records are tens of bytes.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_number_is_the_event_that_protobuf_spells() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path()).unwrap();
        events.scalars(300, &[("loss", 0.5)]).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        let first = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[12 + 9..12 + first], b"\x1a\x0dbrain.Event:2");
        let second = &bytes[16 + first + 12..bytes.len() - 4];
        // Step 300 in field 2, then the summary's one value: tag `loss`, simple_value 0.5.
        assert_eq!(&second[9..], b"\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\x00\x00\x00\x3f");
    }
}
