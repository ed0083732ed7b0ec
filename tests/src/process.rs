//! A process of the consortium, its log, its end.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

/// A running process whose JSON log can be asked. Killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Bytes of the log that were read already.
    read: u64,
}

impl Process {
    /// Starts `program`; what it logs goes to `log`, after what is there already.
    pub fn start(program: &str, arguments: &[&str], log: PathBuf) -> Self {
        Self::start_with(program, arguments, &[("CONSILIUM_TEST_TRAIN_MS", "300")], log)
    }

    /// The same, with other variables in its environment.
    pub fn start_with(program: &str, arguments: &[&str], variables: &[(&str, &str)], log: PathBuf) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log file");
        let read = file.metadata().map_or(0, |file| file.len());
        let child = Command::new(program)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Self { child, log, read }
    }

    /// Everything it logged that is JSON, oldest first.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything it printed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it logged as JSON since the last call, whole lines only.
    pub fn news(&mut self) -> Vec<Value> {
        let mut text = Vec::new();
        let mut file = fs::File::open(&self.log).expect("its log");
        file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut text)).expect("its log");
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.read += whole as u64;
        text[..whole]
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had so far, bytes; Linux only.
    pub fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
    }

    /// Events of one kind.
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Waits for an event of a kind in a round or later.
    pub fn wait_for(&self, kind: &str, round: u64) -> Value {
        let found = || self.events_of(kind).into_iter().find(|event| event["round"].as_u64() >= Some(round));
        wait_until(&format!("\"{kind}\" of round {round} in {}", self.log.display()), || self.text(), found)
    }

    /// SIGKILL, and the end.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// SIGTERM, once it has a handler for it (in its first milliseconds a process has nothing to lose), and the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        let id = self.id();
        wait_until("a handler of SIGTERM", || self.text(), || handles_sigterm(id).then_some(()));
        drop(Command::new("kill").arg(self.child.id().to_string()).status());
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let log = self.log.display().to_string();
        let text = self.text();
        wait_until(
            &format!("the end of the process of {log}"),
            || text.clone(),
            || self.child.try_wait().expect("a child"),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether process `id` catches SIGTERM (signal 15, so bit 14 of the mask), or is gone.
fn handles_sigterm(id: u32) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else { return true };
    if status.contains("State:\tZ") {
        return true;
    }
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.is_none_or(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> 14 & 1 == 1))
}

/// Polls until there is something; fails with `context` after two minutes.
pub fn wait_until<T>(what: &str, context: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "waited two minutes for {what}:\n{}", context());
        sleep(Duration::from_millis(20));
    }
}
