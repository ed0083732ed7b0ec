//! The log's file: each entry with its length before it, four bytes, little-endian.

use consilium_proto::{log::MAX_ENTRY_BYTES, wire::SignedAuditEntry};
use prost::Message as _;

/// Appends an entry.
pub(super) fn write(entry: &SignedAuditEntry, out: &mut Vec<u8>) {
    let bytes = entry.encode_to_vec();
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(bytes);
}

/// All entries of a file.
///
/// # Errors
///
/// In words, the first that is cut short, too long, or not written as [`write`] writes it.
pub(super) fn read(mut bytes: &[u8]) -> Result<Vec<SignedAuditEntry>, String> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let number = all.len() + 1;
        let (length, rest) =
            bytes.split_first_chunk::<4>().ok_or_else(|| format!("entry {number} is cut short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_ENTRY_BYTES {
            return Err(format!("entry {number} has {length} bytes; at most {MAX_ENTRY_BYTES} are read"));
        }
        let body = rest.get(..length).ok_or_else(|| format!("entry {number} is cut short"))?;
        let entry = SignedAuditEntry::decode(body).map_err(|_| format!("entry {number} does not parse"))?;
        if entry.encode_to_vec() != body {
            return Err(format!("entry {number} is not in its one form"));
        }
        all.push(entry);
        bytes = rest.get(length..).unwrap_or_default();
    }
    Ok(all)
}
