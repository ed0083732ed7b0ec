//! The two names in a certificate: whom it is for and who signed it (RFC 5280, section 4.1). For people to read; nothing is decided by them.

/// Longest name that is shown, characters.
const LONGEST: usize = 300;

/// Subject and issuer of a certificate in DER.
pub(super) fn names(certificate: &[u8]) -> (String, String) {
    let unreadable = || "a name that does not parse".to_owned();
    match read(certificate) {
        Some((subject, issuer)) => {
            (name(subject).unwrap_or_else(unreadable), name(issuer).unwrap_or_else(unreadable))
        }
        None => (unreadable(), unreadable()),
    }
}

const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BMP: u8 = 0x1e;
const VERSION: u8 = 0xa0;

/// The contents of subject and issuer.
fn read(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (signed, _) = expect(SEQUENCE, certificate)?;
    let after_version = expect(VERSION, signed).map_or(signed, |(_, rest)| rest);
    let (_serial, rest) = expect(INTEGER, after_version)?;
    let (_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (issuer, rest) = expect(SEQUENCE, rest)?;
    let (_validity, rest) = expect(SEQUENCE, rest)?;
    let (subject, _) = expect(SEQUENCE, rest)?;
    Some((subject, issuer))
}

/// Content of the value at the beginning, if it has this tag, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = value(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest; lengths of at most four bytes.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81..=0x84 => {
            let (digits, rest) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            (
                digits
                    .iter()
                    .try_fold(0usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?,
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `CN=…, O=…`: the attributes that people know.
fn name(mut sets: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !sets.is_empty() {
        let (mut set, rest) = expect(SET, sets)?;
        sets = rest;
        while !set.is_empty() {
            let (attribute, rest) = expect(SEQUENCE, set)?;
            set = rest;
            let (kind, text) = expect(OBJECT, attribute)?;
            let (tag, text, _) = value(text)?;
            let label = match kind {
                [0x55, 0x04, 3] => "CN",
                [0x55, 0x04, 6] => "C",
                [0x55, 0x04, 7] => "L",
                [0x55, 0x04, 8] => "ST",
                [0x55, 0x04, 10] => "O",
                [0x55, 0x04, 11] => "OU",
                _ => continue,
            };
            let text = match tag {
                BMP => {
                    let units = text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                    char::decode_utf16(units).map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
                }
                _ => String::from_utf8_lossy(text).into_owned(),
            };
            parts.push(format!("{label}={text}"));
        }
    }
    // What a stranger wrote goes to a terminal.
    Some(parts.join(", ").chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use consilium_proto::identity::Identity;

    use super::*;

    #[test]
    fn both_names_are_read_and_nothing_breaks_on_rubbish() {
        let identity = Identity::generate("site-1".parse().unwrap(), [1; 32]).unwrap();
        let certificate = identity.certificate().to_vec();
        let (subject, issuer) = names(&certificate);
        assert_eq!(subject, issuer, "it signed itself");
        assert!(subject.starts_with("CN="), "{subject}");
        for end in 0..certificate.len() {
            names(&certificate[..end]);
            let mut bent = certificate.clone();
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                bent[end] = value;
                names(&bent);
            }
        }
    }
}
