//! A safetensors file read like a packet: an eight-byte length, a JSON header, then the tensors' bytes.
//!
//! Checked before any value is used: the file's size against a cap, the header's length against the file, every name once,
//! every element type known, `shape × element size = end − begin` in checked arithmetic, and the tensors covering the rest
//! of the file exactly: no hole, no overlap, nothing after the last. Then one streaming pass takes the SHA-256 and looks for
//! values that are not finite. Values are read in a second pass that must meet the same digest, so what was checked is what
//! is used. Format: the `safetensors` crate's README; its own parser wants the whole file in memory, this one does not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use super::error::ModelError;

/// Largest header that is read, in bytes. A tensor takes about 120 of them.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Most dimensions of one tensor.
const MAX_DIMENSIONS: usize = 8;
/// Read at a time while hashing; a multiple of every element size.
const CHUNK_BYTES: usize = 1 << 20;

/// What a tensor's elements are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// Anything else, by its safetensors name; its values are never read.
    Other(String),
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Other(name) => name,
        })
    }
}

/// Takes a tensor as it is read: name, shape, values row-major.
pub type EachTensor<'a> = dyn FnMut(&str, &[usize], Vec<f32>) + 'a;

/// Changes a tensor's values as the file is written again: name, shape, values row-major.
pub type ChangeTensor<'a> = dyn FnMut(&str, &[usize], &mut [f32]) + 'a;

/// One tensor of a checked file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// What its elements are.
    pub element: Element,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Where its bytes begin, counted from the header's end.
    begin: u64,
    /// One past its last byte.
    end: u64,
}

/// A safetensors file whose header, coverage and values have been checked.
#[derive(Debug)]
pub struct CheckedTensors {
    path: PathBuf,
    tensors: BTreeMap<String, TensorEntry>,
    metadata: BTreeMap<String, String>,
    cap: u64,
    digest: [u8; 32],
}

impl CheckedTensors {
    /// Checks the file in one pass; keeps its header and its digest.
    ///
    /// # Errors
    /// [`ModelError::TooLarge`], [`ModelError::Header`], [`ModelError::NotFinite`] or [`ModelError::Io`].
    pub fn open(path: &Path, cap_bytes: u64) -> Result<Self, ModelError> {
        let (Header { tensors, metadata }, digest) = scan(path, cap_bytes, &mut Finite)?;
        Ok(Self { path: path.to_path_buf(), tensors, metadata, cap: cap_bytes, digest })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorEntry> {
        &self.tensors
    }

    /// What the header says beside its tensors (`__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// SHA-256 of the whole file.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Reads the tensors that `wanted` names, one at a time in file order, as f32.
    ///
    /// # Errors
    /// [`ModelError::ElementType`] for a wanted tensor that is not F32, F16 or BF16; [`ModelError::Changed`] if the file is no longer the one that was
    /// checked; then whatever `each` was given must be thrown away.
    pub fn read<'a>(
        &self,
        wanted: &'a dyn Fn(&str) -> bool,
        each: &'a mut EachTensor<'a>,
    ) -> Result<(), ModelError> {
        let mut values = Values { wanted, each, bytes: Vec::new() };
        self.again(&mut values)
    }

    /// Writes the file again with the values of the tensors that `wanted` names changed by `change(name, shape, values)`; everything
    /// else, header and element types included, is copied byte for byte.
    ///
    /// # Errors
    /// As [`Self::read`], and a failing `out`; then what was written must be thrown away.
    pub fn rewrite<'a>(
        &self,
        out: &'a mut dyn Write,
        wanted: &'a dyn Fn(&str) -> bool,
        change: &'a mut ChangeTensor<'a>,
    ) -> Result<(), ModelError> {
        let io = |source| ModelError::Io { file: self.path.clone(), source };
        let data: u64 = self.tensors.values().map(|entry| entry.end - entry.begin).sum();
        let file = File::open(&self.path).map_err(io)?;
        let header = file.metadata().map_err(io)?.len().saturating_sub(data);
        std::io::copy(&mut file.take(header), out).map_err(io)?;
        self.again(&mut Rewrite { wanted, change, out, held: Vec::new() })
    }

    /// Another pass, over the very file that was checked.
    fn again(&self, visit: &mut dyn Visit) -> Result<(), ModelError> {
        let (header, digest) = scan(&self.path, self.cap, visit)?;
        if digest != self.digest || header.tensors != self.tensors {
            return Err(ModelError::Changed { file: self.path.clone() });
        }
        Ok(())
    }
}

/// What a pass does with the tensors' bytes.
trait Visit {
    /// A piece of a tensor; `offset` is its place in the tensor. A piece ends on an element's edge.
    fn piece(&mut self, at: &At<'_>, offset: u64, bytes: &[u8]) -> Result<(), ModelError>;
}

struct At<'a> {
    path: &'a Path,
    name: &'a str,
    entry: &'a TensorEntry,
}

struct Finite;

impl Visit for Finite {
    fn piece(&mut self, at: &At<'_>, offset: u64, bytes: &[u8]) -> Result<(), ModelError> {
        let Some(width) = float_width(&at.entry.element) else { return Ok(()) };
        let mut bad = None;
        decode(&at.entry.element, bytes, |index, value| {
            if !value.is_finite() && bad.is_none() {
                bad = Some((index, value));
            }
        });
        match bad {
            None => Ok(()),
            Some((index, value)) => Err(ModelError::NotFinite {
                file: at.path.to_path_buf(),
                tensor: at.name.to_owned(),
                index: (offset / width) as usize + index,
                value,
            }),
        }
    }
}

struct Rewrite<'a> {
    wanted: &'a dyn Fn(&str) -> bool,
    change: &'a mut ChangeTensor<'a>,
    out: &'a mut dyn Write,
    held: Vec<f32>,
}

impl Visit for Rewrite<'_> {
    fn piece(&mut self, at: &At<'_>, offset: u64, bytes: &[u8]) -> Result<(), ModelError> {
        let io = |source| ModelError::Io { file: at.path.to_path_buf(), source };
        if !(self.wanted)(at.name) || float_width(&at.entry.element).is_none() {
            return self.out.write_all(bytes).map_err(io);
        }
        decode(&at.entry.element, bytes, |_, value| self.held.push(value));
        if offset + bytes.len() as u64 == at.entry.end - at.entry.begin {
            (self.change)(at.name, &at.entry.shape, &mut self.held);
            self.out.write_all(&encode(&at.entry.element, &self.held)).map_err(io)?;
            self.held.clear();
        }
        Ok(())
    }
}

struct Values<'a> {
    wanted: &'a dyn Fn(&str) -> bool,
    each: &'a mut EachTensor<'a>,
    bytes: Vec<f32>,
}

impl Visit for Values<'_> {
    fn piece(&mut self, at: &At<'_>, offset: u64, bytes: &[u8]) -> Result<(), ModelError> {
        if !(self.wanted)(at.name) {
            return Ok(());
        }
        let Some(width) = float_width(&at.entry.element) else {
            return Err(ModelError::ElementType {
                file: at.path.to_path_buf(),
                tensor: at.name.to_owned(),
                found: at.entry.element.to_string(),
            });
        };
        if offset == 0 {
            self.bytes = Vec::with_capacity(((at.entry.end - at.entry.begin) / width) as usize);
        }
        decode(&at.entry.element, bytes, |_, value| self.bytes.push(value));
        if offset + bytes.len() as u64 == at.entry.end - at.entry.begin {
            (self.each)(at.name, &at.entry.shape, std::mem::take(&mut self.bytes));
        }
        Ok(())
    }
}

fn float_width(element: &Element) -> Option<u64> {
    match element {
        Element::F32 => Some(4),
        Element::F16 | Element::Bf16 => Some(2),
        Element::Other(_) => None,
    }
}

fn decode(element: &Element, bytes: &[u8], mut each: impl FnMut(usize, f32)) {
    match element {
        Element::F32 => {
            for (index, b) in bytes.as_chunks::<4>().0.iter().enumerate() {
                each(index, f32::from_le_bytes(*b));
            }
        }
        Element::F16 => {
            for (index, b) in bytes.as_chunks::<2>().0.iter().enumerate() {
                each(index, half::f16::from_le_bytes(*b).to_f32());
            }
        }
        Element::Bf16 => {
            for (index, b) in bytes.as_chunks::<2>().0.iter().enumerate() {
                each(index, half::bf16::from_le_bytes(*b).to_f32());
            }
        }
        Element::Other(_) => {}
    }
}

/// Values as a file of this element type has them.
fn encode(element: &Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
        Element::Bf16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
        Element::F32 | Element::Other(_) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// What a header says.
#[derive(Debug, Default)]
struct Header {
    tensors: BTreeMap<String, TensorEntry>,
    metadata: BTreeMap<String, String>,
}

/// One pass over the whole file: header, then every tensor's bytes in file order, all of it hashed.
fn scan(path: &Path, cap: u64, visit: &mut dyn Visit) -> Result<(Header, [u8; 32]), ModelError> {
    let io = |source| ModelError::Io { file: path.to_path_buf(), source };
    let lie = |problem| ModelError::Header { file: path.to_path_buf(), problem };
    let file = File::open(path).map_err(io)?;
    let file_bytes = file.metadata().map_err(io)?.len();
    if file_bytes > cap {
        return Err(ModelError::TooLarge { file: path.to_path_buf(), cap_bytes: cap });
    }
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, file);
    let mut hash = Sha256::new();

    let mut length = [0; 8];
    if file_bytes < 8 {
        return Err(lie(format!("{file_bytes} bytes are too few for a header")));
    }
    reader.read_exact(&mut length).map_err(io)?;
    hash.update(length);
    let header_bytes = u64::from_le_bytes(length);
    // No overflow: file_bytes ≥ 8.
    if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes - 8 {
        return Err(lie(format!(
            "the header claims {header_bytes} bytes, the file has {} (at most {MAX_HEADER_BYTES} are read)",
            file_bytes - 8
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    reader.read_exact(&mut header).map_err(io)?;
    hash.update(&header);
    let parsed = parse_header(&header, file_bytes - 8 - header_bytes).map_err(lie)?;

    let mut in_order: Vec<_> = parsed.tensors.iter().collect();
    in_order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
    let mut chunk = vec![0; CHUNK_BYTES];
    for (name, entry) in in_order {
        let at = At { path, name, entry };
        let total = entry.end - entry.begin;
        let mut offset = 0;
        while offset < total {
            let take = CHUNK_BYTES.min(usize::try_from(total - offset).unwrap_or(CHUNK_BYTES));
            let piece = &mut chunk[..take];
            reader.read_exact(piece).map_err(io)?;
            hash.update(&*piece);
            visit.piece(&at, offset, piece)?;
            offset += take as u64;
        }
    }
    if reader.read(&mut chunk[..1]).map_err(io)? != 0 {
        return Err(ModelError::Changed { file: path.to_path_buf() });
    }
    Ok((parsed, hash.finalize().into()))
}

/// Parses the header and checks that its tensors cover `data_bytes` exactly.
fn parse_header(bytes: &[u8], data_bytes: u64) -> Result<Header, String> {
    if bytes.first() != Some(&b'{') {
        return Err("the header does not begin with `{`".to_owned());
    }
    let raw: RawHeader =
        serde_json::from_slice(bytes).map_err(|error| format!("the header does not parse: {error}"))?;
    let mut tensors = BTreeMap::new();
    for (name, raw) in raw.entries {
        let entry = checked_entry(&name, &raw)?;
        if tensors.insert(name.clone(), entry).is_some() {
            return Err(format!("tensor `{name}` is listed twice"));
        }
    }
    let mut spans: Vec<_> = tensors.iter().map(|(name, e)| (e.begin, e.end, name)).collect();
    spans.sort_unstable();
    let mut covered = 0;
    for (begin, end, name) in spans {
        if begin != covered {
            let what = if begin > covered { "leaves a hole" } else { "overlaps another" };
            return Err(format!(
                "tensor `{name}` begins at byte {begin}, the one before ends at {covered}: it {what}"
            ));
        }
        covered = end;
    }
    if covered != data_bytes {
        return Err(format!(
            "the tensors end at byte {covered}, the file's data at {data_bytes}: cut short, or something was appended"
        ));
    }
    Ok(Header { tensors, metadata: raw.metadata.unwrap_or_default() })
}

fn checked_entry(name: &str, raw: &RawEntry) -> Result<TensorEntry, String> {
    let (element, width) = element(&raw.dtype)
        .ok_or_else(|| format!("tensor `{name}` has unknown element type `{}`", raw.dtype))?;
    if raw.shape.len() > MAX_DIMENSIONS {
        return Err(format!("tensor `{name}` has {} dimensions", raw.shape.len()));
    }
    let [begin, end] = raw.data_offsets;
    let bytes = raw.shape.iter().try_fold(width, |product, &size| product.checked_mul(size));
    let claimed = end.checked_sub(begin);
    if bytes.is_none() || bytes != claimed {
        return Err(format!(
            "tensor `{name}` of shape {:?} and type {} cannot lie at bytes {begin} to {end}",
            raw.shape, raw.dtype
        ));
    }
    let shape = raw
        .shape
        .iter()
        .map(|&size| usize::try_from(size))
        .collect::<Result<_, _>>()
        .map_err(|_| format!("tensor `{name}` is too large for this machine"))?;
    Ok(TensorEntry { element, shape, begin, end })
}

fn element(dtype: &str) -> Option<(Element, u64)> {
    Some(match dtype {
        "F32" => (Element::F32, 4),
        "F16" => (Element::F16, 2),
        "BF16" => (Element::Bf16, 2),
        "F64" | "I64" | "U64" => (Element::Other(dtype.to_owned()), 8),
        "I32" | "U32" => (Element::Other(dtype.to_owned()), 4),
        "I16" | "U16" => (Element::Other(dtype.to_owned()), 2),
        "I8" | "U8" | "BOOL" => (Element::Other(dtype.to_owned()), 1),
        _ => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// A list, not a map: serde would let a second entry of the same name silently replace the first.
struct RawHeader {
    entries: Vec<(String, RawEntry)>,
    metadata: Option<BTreeMap<String, String>>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut entries = Vec::new();
                let mut metadata = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        if metadata.is_some() {
                            return Err(A::Error::custom("`__metadata__` is listed twice"));
                        }
                        metadata = Some(map.next_value()?);
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(RawHeader { entries, metadata })
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
