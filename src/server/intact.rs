//! Whether the file of a store is what its writer left: looked at before it is used as a database.
//!
//! redb trusts a file that was closed in order: it follows page numbers before it checks them, so a
//! damaged one ends in a panic, in memory without end, or in another answer. Its repair, though, holds
//! every page against the checksum of the page above, down from the two slots in the header. So the
//! file is opened here as one that needs repair, over a layer that keeps all writes in memory: nothing
//! is followed unchecked, and the file stays as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Builder, Database, StorageBackend};

use crate::guard::caught;

/// Unit in which changes are kept, in bytes; also the size of the database's pages.
const PAGE: usize = 4096;
/// Memory for pages that were read, in bytes.
const CACHE: usize = 64 << 20;
/// Bytes that may be read for one of the file: the repair goes over it three times.
const MOST_READ: u64 = 16;

// The header, by redb's file format 3: what it begins with, then sizes, then two slots of which one
// is in force. The slots have checksums, the sizes have none.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";
const FLAGS: usize = 9;
const PAGE_SIZE: usize = 12;
const REGION_HEADER_PAGES: usize = 16;
const REGION_MOST_PAGES: usize = 20;
const NUM_REGIONS: usize = 24;
const PAGES_OF_LAST: usize = 28;
const SLOTS: usize = 64;
const SLOT: usize = 128;
const HEADER: usize = SLOTS + 2 * SLOT;
const SECOND_IN_FORCE: u8 = 1;
const REPAIR: u8 = 2;
const TWO_PHASES: u8 = 4;
/// A region has no more pages than a page number can say.
const MOST_PAGES: u32 = 1 << 20;

/// Returns what is wrong with the file of a store, if anything is. The file is not changed.
///
/// # Cost
/// Reads the file about three times.
pub(super) fn damage(file: &File) -> io::Result<Option<String>> {
    let length = file.metadata()?.len();
    if length < PAGE as u64 {
        return Ok(Some(format!("it has {length} bytes, less than a header")));
    }
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let number = |at: usize| header[at..at + 4].iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
    if header[..MAGIC.len()] != *MAGIC {
        return Ok(Some("it does not begin as one".to_owned()));
    }
    if number(PAGE_SIZE) as usize != PAGE
        || number(REGION_HEADER_PAGES) > MOST_PAGES
        || !(1..=MOST_PAGES).contains(&number(REGION_MOST_PAGES))
    {
        return Ok(Some("its header has impossible sizes".to_owned()));
    }
    let flags = header[FLAGS];
    let region = u64::from(number(REGION_HEADER_PAGES)) + u64::from(number(REGION_MOST_PAGES));
    let last = match u64::from(number(PAGES_OF_LAST)) {
        0 => 0,
        pages => u64::from(number(REGION_HEADER_PAGES)) + pages,
    };
    let expected = u128::from(number(NUM_REGIONS)) * u128::from(region) + u128::from(last) + 1;
    let expected = expected * PAGE as u128;
    // One that was being written may have grown already.
    if u128::from(length) < expected || (flags & REPAIR == 0 && u128::from(length) > expected) {
        return Ok(Some(format!("it has {length} bytes, expected {expected}")));
    }
    let in_force = usize::from(flags & SECOND_IN_FORCE);
    let first = try_slot(file, header, in_force);
    // A process that was killed while it wrote in one phase may have left the slot before in force.
    let may_go_back = flags & (REPAIR | TWO_PHASES) == REPAIR;
    match first {
        Err(_) if may_go_back => Ok(try_slot(file, header, 1 - in_force).err()),
        first => Ok(first.err()),
    }
}

/// Repairs the file in memory from one of its slots.
fn try_slot(file: &File, mut header: [u8; HEADER], slot: usize) -> Result<(), String> {
    // Both slots are made this one: if it is damaged there is no other to fall back on unseen.
    let slots = [SLOTS, SLOTS + SLOT];
    header.copy_within(slots[slot]..slots[slot] + SLOT, slots[1 - slot]);
    header[FLAGS] = slot as u8 | REPAIR;
    let layer = Layer::new(file, &header).map_err(|e| e.to_string())?;
    let opened = caught(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        builder.create_with_backend(layer)
    })?;
    // A database that panicked is not asked to close itself.
    let database = ManuallyDrop::new(opened.map_err(|e| e.to_string())?);
    caught(|| {
        let database: Database = ManuallyDrop::into_inner(database);
        drop(database);
    })
}

/// A file that is read, and changes to it that are kept in memory.
#[derive(Debug)]
struct Layer {
    file: Arc<File>,
    changed: Mutex<Changed>,
    most_read: u64,
}

#[derive(Debug)]
struct Changed {
    length: u64,
    /// What the file has behind this was cut off.
    least: u64,
    pages: BTreeMap<u64, Vec<u8>>,
    num_read: u64,
}

impl Layer {
    fn new(file: &File, header: &[u8]) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let changed = Changed { length, least: length, pages: BTreeMap::new(), num_read: 0 };
        let most_read = MOST_READ * length + CACHE as u64;
        let file = Arc::new(file.try_clone()?);
        let layer = Self { file, changed: Mutex::new(changed), most_read };
        layer.write(0, header)?;
        Ok(layer)
    }

    /// The page as it is in the file; what lies behind its end is 0.
    fn page_of_file(&self, page: u64, least: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; PAGE];
        let begin = page * PAGE as u64;
        let most = least.saturating_sub(begin).min(PAGE as u64) as usize;
        let mut filled = 0;
        while filled < most {
            match self.file.read_at(&mut bytes[filled..most], begin + filled as u64) {
                Ok(0) => break,
                Ok(num) => filled += num,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(bytes)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Pages that bytes lie on, each with the range in the page and the range in the bytes.
fn pages(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let num = (PAGE - within).min(length - done);
        let part = (at / PAGE as u64, within, done..done + num);
        done += num;
        (num > 0).then_some(part)
    })
}

impl StorageBackend for Layer {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changed.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > changed.length) {
            return Err(damaged("a page lies behind the file's end"));
        }
        changed.num_read += out.len() as u64;
        if changed.num_read > self.most_read {
            return Err(damaged("its pages lead in circles"));
        }
        for (page, within, range) in pages(offset, out.len()) {
            let part = &mut out[range];
            let end = within + part.len();
            match changed.pages.get(&page) {
                Some(bytes) => part.copy_from_slice(&bytes[within..end]),
                None => part.copy_from_slice(&self.page_of_file(page, changed.least)?[within..end]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        // What was cut off is 0 when the file grows again.
        let num = length.div_ceil(PAGE as u64);
        changed.pages.retain(|page, _| *page < num);
        changed.length = length;
        changed.least = changed.least.min(length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        for (page, within, range) in pages(offset, data.len()) {
            if !changed.pages.contains_key(&page) {
                let bytes = self.page_of_file(page, changed.least)?;
                changed.pages.insert(page, bytes);
            }
            if let Some(bytes) = changed.pages.get_mut(&page) {
                bytes[within..within + range.len()].copy_from_slice(&data[range]);
            }
        }
        Ok(())
    }
}
