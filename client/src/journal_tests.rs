//! The journal against crashes at every byte, changes at every byte, and disks that fail.

use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Attempt { round: u32, attempt: u32 },
    Vote { body: String },
    Epsilon(f64),
}

const OWNER: &str = "job demo of site-1";

fn events() -> Vec<Event> {
    vec![
        Event::Attempt { round: 1, attempt: 1 },
        Event::Vote { body: "a \"quoted\" line\nand another".to_owned() },
        Event::Epsilon(0.1 + 0.2),
        Event::Attempt { round: 2, attempt: 1 },
    ]
}

struct Sandbox {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Sandbox {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.journal");
        Self { _folder: folder, path }
    }

    fn with_events() -> Self {
        let sandbox = Self::new();
        let (mut journal, records) = sandbox.open().unwrap();
        assert!(records.is_empty());
        journal.append(&events()[..1]).unwrap();
        journal.append(&events()[1..]).unwrap();
        sandbox
    }

    fn open(&self) -> Result<(Journal<Event>, Vec<Event>), JournalError> {
        Journal::open(&self.path, OWNER)
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn set(&self, bytes: &[u8]) {
        std::fs::write(&self.path, bytes).unwrap();
    }
}

#[test]
fn records_come_back_in_order_and_the_chain_goes_on() {
    let sandbox = Sandbox::with_events();
    let (mut journal, records) = sandbox.open().unwrap();
    assert_eq!(records, events());
    let (length, head) = journal.head();
    assert_eq!(length, 4);
    journal.append(&[Event::Epsilon(1.0)]).unwrap();
    assert_ne!(journal.head().1, head);
    let head = journal.head();
    drop(journal);
    let (journal, records) = sandbox.open().unwrap();
    assert_eq!((records.len(), journal.head(), journal.torn()), (5, head, None));
    let contents = Journal::<Event>::read(&sandbox.path, OWNER).unwrap();
    assert_eq!((contents.records.len() as u64, contents.chain), head);
}

#[test]
fn the_format_is_what_the_manual_says() {
    let sandbox = Sandbox::with_events();
    let text = String::from_utf8(sandbox.bytes()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0][65..], *r#"{"journal":1,"belongs_to":"job demo of site-1"}"#);
    assert_eq!(lines[1][65..], *r#"{"attempt":{"round":1,"attempt":1}}"#);
    let previous: Digest = lines[0][..64].parse().unwrap();
    let expected =
        Transcript::new("consilium/1/journal").digest(&previous).bytes(&lines[1].as_bytes()[65..]).finish();
    assert_eq!(lines[1][..64], expected.to_string());
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_reported() {
    let sandbox = Sandbox::with_events();
    let whole = sandbox.bytes();
    let begin = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    for cut in begin + 1..whole.len() {
        sandbox.set(&whole[..cut]);
        let seen = Journal::<Event>::read(&sandbox.path, OWNER).unwrap();
        assert!(seen.torn.is_some(), "cut at {cut}");
        assert_eq!(sandbox.bytes().len(), cut, "reading changes nothing");
        let (mut journal, records) = sandbox.open().unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(records, events()[..3]);
        assert_eq!(journal.torn(), Some(Torn { line: 5, bytes: (cut - begin) as u64 }));
        assert_eq!(sandbox.bytes(), whole[..begin]);
        journal.append(&events()[3..]).unwrap();
        assert_eq!(sandbox.bytes(), whole, "it goes on as if nothing had happened");
    }
    // Blocks that were allocated and never filled.
    for from in begin..whole.len() - 1 {
        let mut zeroed = whole.clone();
        zeroed[from..whole.len() - 1].fill(0);
        sandbox.set(&zeroed);
        let (journal, records) = sandbox.open().unwrap_or_else(|error| panic!("zero from {from}: {error}"));
        assert_eq!((records.len(), journal.torn().is_some()), (3, true));
    }
    let mut grown = whole.clone();
    grown.extend_from_slice(&[0; 700]);
    sandbox.set(&grown);
    assert_eq!(sandbox.open().unwrap().1, events());
    assert_eq!(sandbox.bytes(), whole);
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let sandbox = Sandbox::with_events();
    let whole = sandbox.bytes();
    for index in 0..whole.len() {
        for flip in [1, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[index] ^= flip;
            sandbox.set(&bytes);
            let opened = sandbox.open();
            // A space that became a zero byte looks like a block that was never filled; only the last line's can.
            if bytes[index] == 0 && opened.as_ref().is_ok_and(|(journal, _)| journal.torn().is_some()) {
                continue;
            }
            let error = opened.err().unwrap_or_else(|| panic!("byte {index} ^ {flip:#x} was not found"));
            let line = 1 + whole[..index].iter().filter(|&&byte| byte == b'\n').count();
            match error {
                JournalError::Damaged { line: found, .. } => assert_eq!(found, line as u64, "byte {index}"),
                error => panic!("byte {index}: {error}"),
            }
            assert_eq!(sandbox.bytes(), bytes, "a damaged file is left as it is");
        }
    }
}

#[test]
fn missing_added_and_swapped_lines_are_found() {
    let sandbox = Sandbox::with_events();
    let text = String::from_utf8(sandbox.bytes()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let arrangements: [&[usize]; 5] =
        [&[0, 2, 3, 4], &[0, 1, 1, 2, 3, 4], &[0, 1, 3, 2, 4], &[1, 2, 3, 4], &[0, 1, 2, 3, 4, 0]];
    for arrangement in arrangements {
        let bent: String = arrangement.iter().map(|&line| lines[line]).collect();
        sandbox.set(bent.as_bytes());
        assert!(matches!(sandbox.open(), Err(JournalError::Damaged { .. })), "{arrangement:?}");
    }
    sandbox.set(b"");
    let error = sandbox.open().unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("backup"), "{error}");
}

#[test]
fn another_journal_is_refused_by_its_name() {
    let sandbox = Sandbox::with_events();
    let error = Journal::<Event>::open(&sandbox.path, "job demo of site-2").unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, JournalError::Foreign { .. }), "{text}");
    assert!(text.contains("job demo of site-1") && text.contains("job demo of site-2"), "{text}");
    assert_eq!(sandbox.open().unwrap().1.len(), 4, "and nothing happened to it");
}

#[test]
fn a_record_of_a_later_version_is_not_damage() {
    let sandbox = Sandbox::with_events();
    let error = Journal::<u32>::open(&sandbox.path, OWNER).unwrap_err();
    assert!(matches!(error, JournalError::Unreadable { line: 2, .. }), "{error}");
}

#[test]
fn one_process_appends_and_others_may_look() {
    let sandbox = Sandbox::with_events();
    let (_journal, _) = sandbox.open().unwrap();
    assert!(matches!(sandbox.open(), Err(JournalError::InUse { .. })));
    assert_eq!(Journal::<Event>::read(&sandbox.path, OWNER).unwrap().records.len(), 4);
}

/// A disk with so many bytes left, on which syncing or truncating may fail.
#[derive(Clone)]
struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    file: File,
    room: usize,
    syncs: bool,
    truncates: bool,
}

impl Media for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let fits = bytes.len().min(disk.room);
        disk.room -= fits;
        disk.file.write_all(&bytes[..fits])?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        if disk.syncs { Ok(()) } else { Err(io::Error::other("input/output error")) }
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        if disk.truncates { disk.file.set_len(bytes) } else { Err(io::Error::other("input/output error")) }
    }
}

fn on_disk(sandbox: &Sandbox, room: usize) -> (Journal<Event>, Disk) {
    let (mut journal, _) = sandbox.open().unwrap();
    let file = OpenOptions::new().append(true).open(&sandbox.path).unwrap();
    let disk = Disk(Arc::new(Mutex::new(Inner { file, room, syncs: true, truncates: true })));
    journal.media = Box::new(disk.clone());
    (journal, disk)
}

#[test]
fn a_full_disk_leaves_the_journal_as_it_was_and_it_goes_on_when_there_is_room() {
    for room in 0..150 {
        let sandbox = Sandbox::with_events();
        let before = sandbox.bytes();
        let (mut journal, disk) = on_disk(&sandbox, room);
        let head = journal.head();
        let error = journal.append(&events()).unwrap_err();
        assert!(matches!(error, JournalError::Write { restored: true, .. }), "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
        assert_eq!((sandbox.bytes(), journal.head()), (before, head));
        disk.0.lock().unwrap().room = usize::MAX;
        journal.append(&events()).unwrap();
        drop(journal);
        assert_eq!(sandbox.open().unwrap().1, [events(), events()].concat());
    }
}

#[test]
fn a_torn_line_that_cannot_be_cut_off_ends_recording_until_the_next_start() {
    let sandbox = Sandbox::with_events();
    let (mut journal, disk) = on_disk(&sandbox, 90);
    disk.0.lock().unwrap().truncates = false;
    assert!(matches!(journal.append(&events()), Err(JournalError::Write { restored: false, .. })));
    disk.0.lock().unwrap().room = usize::MAX;
    assert!(matches!(journal.append(&events()), Err(JournalError::Refusing { .. })));
    drop(journal);
    let (journal, records) = sandbox.open().unwrap();
    assert_eq!((records, journal.torn().is_some()), (events(), true));
}

#[test]
fn after_a_failed_sync_nothing_more_is_recorded() {
    let sandbox = Sandbox::with_events();
    let (mut journal, disk) = on_disk(&sandbox, usize::MAX);
    let head = journal.head();
    disk.0.lock().unwrap().syncs = false;
    assert!(matches!(journal.append(&events()[..1]), Err(JournalError::Sync { .. })));
    disk.0.lock().unwrap().syncs = true;
    let error = journal.append(&events()[..1]).unwrap_err();
    assert!(matches!(error, JournalError::Refusing { .. }), "a later sync must not be believed");
    assert!(error.to_string().contains("check the disk"), "{error}");
    assert_eq!(journal.head(), head);
}

#[test]
fn a_real_device_without_room_is_an_error_too() {
    let sandbox = Sandbox::with_events();
    let (mut journal, _) = sandbox.open().unwrap();
    journal.media = Box::new(OpenOptions::new().append(true).open("/dev/full").unwrap());
    let error = journal.append(&events()).unwrap_err();
    assert!(matches!(error, JournalError::Write { .. }), "{error}");
    drop(journal);
    assert_eq!(sandbox.open().unwrap().1, events());
}

#[test]
fn a_record_that_is_no_line_writes_nothing() {
    struct Never;
    impl Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    impl<'de> Deserialize<'de> for Never {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    let sandbox = Sandbox::new();
    let (mut journal, _) = Journal::<Never>::open(&sandbox.path, OWNER).unwrap();
    let before = sandbox.bytes();
    assert!(matches!(journal.append(&[Never]), Err(JournalError::Record { .. })));
    assert_eq!(sandbox.bytes(), before);
}
