//! A coordinator process, its log, its memory, and honest members around it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use consilium_proto::release::unpack_sum;
use serde_json::Value;

use crate::generator::{Consortium, Member, Shape, expected_sum};

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

pub(crate) struct Server {
    pub(crate) consortium: Consortium,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    program: Vec<String>,
    child: Child,
    starts: usize,
}

impl Server {
    /// Starts one with these lines in its `[limits]`.
    pub(crate) fn start(shape: &Shape, limits: &str) -> Self {
        let program = vec![env!("CARGO_BIN_EXE_consilium-coordinator").to_owned()];
        Self::start_in(&std::env::temp_dir(), program, shape, limits)
    }

    /// Starts another program in the coordinator's place, with its state somewhere else.
    pub(crate) fn start_in(parent: &Path, program: Vec<String>, shape: &Shape, limits: &str) -> Self {
        let (consortium, folder) = (Consortium::found(shape), tempfile::tempdir_in(parent).unwrap());
        consortium.write(folder.path(), "127.0.0.1:0".parse().unwrap(), limits);
        let child = spawn(&program, &folder);
        let address = "127.0.0.1:1".parse().unwrap();
        let mut server = Self { consortium, address, folder, program, child, starts: 1 };
        server.listening(1);
        server
    }

    /// Starts the process again in the same folder, on another port.
    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.program, &self.folder);
        self.starts += 1;
        self.listening(self.starts);
    }

    fn listening(&mut self, times: usize) {
        let address = wait_for(
            "it to listen",
            || self.text(),
            || {
                let lines = self.lines("listening");
                (lines.len() == times).then(|| lines[times - 1]["address"].as_str().unwrap().to_owned())
            },
        );
        self.address = address.parse().unwrap();
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Log lines whose message begins so.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        let parsed = |line| serde_json::from_str::<Value>(line).ok();
        let of = |line: &Value| line["message"].as_str().is_some_and(|it| it.starts_with(message));
        self.text().lines().filter_map(parsed).filter(of).collect()
    }

    /// Waits until a party (empty: a stranger) was refused by this name so many times.
    pub(crate) fn refused(&self, code: &str, who: &str, times: u64) {
        wait_for(
            &format!("{times} refusals \"{code}\" of \"{who}\""),
            || self.text(),
            || {
                let total = self.total(code, who);
                (total >= times).then_some(())
            },
        );
    }

    /// How often a party was refused by this name, as the log says.
    pub(crate) fn total(&self, code: &str, who: &str) -> u64 {
        let of = |line: &&Value| line["code"] == code && line["who"] == who;
        self.lines("refused").iter().filter(of).filter_map(|line| line["total"].as_u64()).max().unwrap_or(0)
    }

    /// A field of `/proc/PID/status`, KiB: `VmRSS` now, `VmHWM` at most so far.
    pub(crate) fn memory_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Where the chunks of a member are kept in the first attempt of a round.
    pub(crate) fn input(&self, id: &str, round: u32) -> PathBuf {
        self.state().join(format!("inputs/round-{round}-attempt-1/{id}.chunks"))
    }

    /// Where the process keeps its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The operator's program in the folder of this coordinator; arguments are the words of `line`, and those between quotes
    /// are one.
    pub(crate) fn terminal(&self, line: &str) -> Said {
        self.consortium.write_terminals(self.folder.path(), self.address);
        let words = line.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
            1 => vec![part],
            _ => part.split_whitespace().collect(),
        });
        let output = Command::new(env!("CARGO_BIN_EXE_consilium"))
            .current_dir(self.folder.path())
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The page that Prometheus reads.
    pub(crate) fn metrics(&self) -> String {
        use std::io::{Read as _, Write as _};
        let lines = self.lines("metrics");
        let address =
            lines.last().expect("observe.metrics is configured")["address"].as_str().unwrap().to_owned();
        let mut tcp = std::net::TcpStream::connect(address).unwrap();
        tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).unwrap();
        let (head, page) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        page.to_owned()
    }

    /// A channel as a party.
    pub(crate) async fn channel(
        &self,
        identity: &consilium_proto::identity::Identity,
    ) -> tonic::transport::Channel {
        let roster = self.consortium.roster.clone();
        crate::generator::channel(self.address, identity, roster, std::sync::Arc::default()).await.unwrap()
    }

    /// A file in the folder of this coordinator.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// As an operator, with words that must be in what is said.
    pub(crate) fn says(&self, line: &str, code: i32, words: &[&str]) -> Said {
        let said = self.terminal(&format!("{line} --config operator.toml"));
        assert_eq!(said.code, code, "consilium {line}: {said:?}");
        let all = format!("{}{}", said.out, said.err);
        for word in words {
            assert!(all.contains(word), "\"{word}\" is not in what consilium {line} said:\n{all}");
        }
        said
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    pub(crate) fn terminate(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        let text = self.text();
        wait_for("its end", || text.clone(), || self.child.try_wait().unwrap())
    }

    pub(crate) async fn member(&self, index: usize) -> Member {
        Member::connect(&self.consortium, index, self.address).await.unwrap()
    }

    pub(crate) async fn members(&self, indices: impl IntoIterator<Item = usize>) -> Vec<Member> {
        let mut members = Vec::new();
        for index in indices {
            members.push(self.member(index).await);
        }
        members
    }

    /// A round of these members to its end, and its sum is exactly theirs.
    pub(crate) async fn complete(&self, members: Vec<Member>, round: u32) -> Vec<Member> {
        let running: Vec<_> = members
            .into_iter()
            .map(|mut member| {
                tokio::spawn(async move {
                    member.round().await.unwrap();
                    member
                })
            })
            .collect();
        let mut back = Vec::new();
        for member in running {
            back.push(member.await.unwrap());
        }
        let indices: Vec<_> = back.iter().map(|member| member.index).collect();
        self.check(&mut back[0], round, &indices).await;
        back
    }

    /// The published sum of a round is exactly the sum of these members' updates.
    pub(crate) async fn check(&self, reader: &mut Member, round: u32, survivors: &[usize]) {
        let sum = unpack_sum(&self.consortium.plan, &reader.sum(round).await.unwrap()).unwrap();
        let expected = expected_sum(&self.consortium.plan, survivors.iter().copied());
        let wrong = (0..sum.len()).find(|&j| sum[j] != expected(j));
        assert_eq!(wrong, None, "the sum is not the sum of {survivors:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// With a soft file limit of 1024, as systems have it.
fn spawn(program: &[String], folder: &tempfile::TempDir) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.path().join("log")).unwrap();
    Command::new("sh")
        .args(["-c", "ulimit -S -n 1024; exec \"$@\"", "sh"])
        .args(program)
        .arg("--config")
        .arg(folder.path().join("coordinator.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Polls until there is something; fails with `context` after two minutes.
pub(crate) fn wait_for<T>(
    what: &str,
    context: impl Fn() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "waited two minutes for {what}:\n{}", context());
        sleep(Duration::from_millis(20));
    }
}
