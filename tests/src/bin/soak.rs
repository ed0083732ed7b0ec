//! A long job on loopback under random faults: `make soak`, or `make soak QUICK=1` for less than a minute.
//!
//! Five real clients and a real coordinator, each client behind a line that breaks. What happens when, and to whom, follows from
//! the seed; what comes of it depends on the machine's speed as well. At the end everything that was left on the disks is held against what
//! every party promised (`audit`), and a report is printed and written to `target/soak/report.md`.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, Instant},
};

use consilium_tests::{Shape, Trial, audit::Audit, line::Weather};

const HELP: &str = "\
A job of 200 rounds under random faults, with real processes on loopback.

Usage: soak [--quick] [--seed N] [--rounds N]

  --quick      24 rounds and no long cut: less than a minute
  --seed N     what happens when, and to whom (default 1)
  --rounds N   rounds (default 200)

Exit codes: 0 everything that must hold held, 101 something did not (it says what), 2 wrong usage.";

/// How long one client is cut off in a full run.
const LONG_CUT: Duration = Duration::from_secs(300);
/// After this the soak is stuck.
const LIMIT: Duration = Duration::from_secs(45 * 60);

struct Options {
    quick: bool,
    seed: u64,
    rounds: u32,
}

fn options() -> Result<Options, String> {
    let (mut quick, mut seed, mut rounds) = (false, 1, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let next = words.next().and_then(|text| text.parse::<u32>().ok());
            next.ok_or_else(|| format!("{word} takes a number"))
        };
        match word.as_str() {
            "--quick" => quick = true,
            "--seed" => seed = u64::from(number()?),
            "--rounds" => rounds = Some(number()?),
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(Options { quick, seed, rounds: rounds.unwrap_or(if quick { 24 } else { 200 }) })
}

fn main() -> ExitCode {
    match options() {
        Err(help) => {
            eprintln!("{help}");
            ExitCode::from(2)
        }
        Ok(options) => {
            Soak::begin(options).run();
            ExitCode::SUCCESS
        }
    }
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, many: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % many
    }

    fn seconds(&mut self, from: f64, to: f64) -> Duration {
        Duration::from_secs_f64(from + (to - from) * self.below(1 << 20) as f64 / f64::from(1 << 20))
    }
}

/// What is to happen later.
enum Mend {
    Coordinator,
    Client(usize),
    Line(usize),
}

struct Soak {
    options: Options,
    random: Random,
    trial: Trial,
    began: Instant,
    /// What is broken, and when it is mended.
    broken: Vec<(Instant, Mend)>,
    next_fault: Instant,
    /// The site that is cut off for long, until then.
    long: Option<(usize, Instant)>,
    faults: BTreeMap<&'static str, u32>,
    released: u64,
    attempts_failed: u32,
    memory_kib: u64,
}

impl Soak {
    fn begin(options: Options) -> Self {
        let shape = Shape {
            rounds: options.rounds,
            labels: 2500,
            grace_s: 2,
            upload_grace_s: Some(20),
            epsilon: 1e6,
            limits: "keepalive_s = 2\ndrain_s = 3",
            ..Shape::default()
        };
        let train_ms = if options.quick { 300 } else { 700 };
        let (trial, now) = (Trial::start_on_lines(&shape, train_ms), Instant::now());
        Self {
            random: Random(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            options,
            trial,
            began: now,
            broken: Vec::new(),
            next_fault: now + Duration::from_secs(3),
            long: None,
            faults: BTreeMap::new(),
            released: 0,
            attempts_failed: 0,
            memory_kib: 0,
        }
    }

    fn run(mut self) {
        loop {
            assert!(
                self.began.elapsed() < LIMIT,
                "stuck in round {}:\n{}",
                self.released,
                self.trial.coordinator.text()
            );
            self.listen();
            self.mend();
            if self.released >= u64::from(self.options.rounds) || self.over() {
                break;
            }
            if Instant::now() >= self.next_fault {
                self.fault();
                let (from, to) = if self.options.quick { (1.0, 4.0) } else { (2.0, 8.0) };
                self.next_fault = Instant::now() + self.random.seconds(from, to);
            }
            sleep(Duration::from_millis(20));
        }
        // Whatever is broken now is mended, and everybody comes to the end.
        let later = Instant::now() - Duration::from_secs(1);
        self.broken.iter_mut().for_each(|(when, _)| *when = later);
        self.mend();
        let Self { trial, options, began, faults, attempts_failed, memory_kib, .. } = self;
        let inputs = trial.consortium.path("coordinator/inputs");
        let audit = trial.finish_keeping(|| {
            let left = fs::read_dir(&inputs).map_or(0, |folder| folder.count());
            assert_eq!(left, 0, "masked inputs were left behind in {}", inputs.display());
        });
        let ended = audit.released.len() + rounds_without(&audit, options.rounds);
        assert_eq!(ended, options.rounds as usize, "every round ended, one way or the other: {audit:?}");
        report(&options, began.elapsed(), &faults, attempts_failed, memory_kib, &audit);
    }

    /// Reads the coordinator's log, and sees that nobody died who was not killed.
    fn listen(&mut self) {
        for line in self.trial.coordinator.news() {
            match line["message"].as_str() {
                Some("released") => {
                    let round = line["round"].as_u64().unwrap_or(0);
                    self.released = self.released.max(round);
                    println!("{:6.1} s  round {round} released", self.began.elapsed().as_secs_f64());
                }
                Some("attempt failed") => {
                    self.attempts_failed += 1;
                    println!(
                        "{:6.1} s  {}.{} failed: {}",
                        self.began.elapsed().as_secs_f64(),
                        line["round"],
                        line["attempt"],
                        line["code"]
                    );
                }
                _ => {}
            }
        }
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.trial.coordinator.id())).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        self.memory_kib = self.memory_kib.max(peak.unwrap_or(0));
        let coordinator = self.broken.iter().any(|(_, what)| matches!(what, Mend::Coordinator));
        let ended = self.trial.coordinator.ended().filter(|_| !coordinator);
        assert!(ended.is_none(), "the coordinator ended: {ended:?}\n{}", self.trial.coordinator.text());
        for site in 1..=5 {
            let killed = self.broken.iter().any(|(_, what)| matches!(what, Mend::Client(it) if *it == site));
            let ended = self.trial.clients[site - 1].ended().filter(|status| !killed && !status.success());
            assert!(ended.is_none(), "site-{site} ended: {ended:?}\n{}", self.trial.client(site).text());
        }
    }

    /// A client has come to the job's end.
    fn over(&mut self) -> bool {
        self.trial.clients.iter_mut().any(|client| client.ended().is_some_and(|status| status.success()))
            && !self.broken.iter().any(|(_, what)| matches!(what, Mend::Client(_)))
    }

    fn mend(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.broken).into_iter().partition(|(when, _)| *when <= now);
        self.broken = later;
        let due: Vec<(Instant, Mend)> = due;
        for (_, what) in due {
            match what {
                Mend::Coordinator => self.trial.restart_coordinator(None),
                Mend::Client(site) => self.trial.restart_client(site, None),
                Mend::Line(site) => self.trial.lines[site - 1].mend(),
            }
        }
    }

    fn fault(&mut self) {
        let now = Instant::now();
        let quick = self.options.quick;
        if !quick && self.long.is_none() && self.released >= u64::from(self.options.rounds) / 4 {
            self.long = Some((5, now + LONG_CUT));
            self.trial.lines[4].cut();
            self.broken.push((now + LONG_CUT, Mend::Line(5)));
            return self.note("a line cut for five minutes", 5);
        }
        let cut = self.long.filter(|(_, until)| *until > now).map(|(site, _)| site);
        let site = 1 + self.random.below(5) as usize;
        let busy = self
            .broken
            .iter()
            .any(|(_, what)| matches!(what, Mend::Client(it) | Mend::Line(it) if *it == site));
        if busy || cut == Some(site) {
            return;
        }
        let coordinator = self.broken.iter().any(|(_, what)| matches!(what, Mend::Coordinator));
        match self.random.below(9) {
            0 if !coordinator => {
                self.trial.coordinator.kill();
                let back = now + self.random.seconds(0.0, 2.0);
                self.broken.push((back, Mend::Coordinator));
                self.note("coordinator killed (SIGKILL)", 0);
            }
            1 if !coordinator => {
                let status = self.trial.coordinator.terminate();
                assert!(status.success(), "{status}: {}", self.trial.coordinator.text());
                self.broken.push((now, Mend::Coordinator));
                self.note("coordinator restarted (SIGTERM)", 0);
            }
            2 | 3 => {
                self.trial.clients[site - 1].kill();
                let back = now + self.random.seconds(0.0, 3.0);
                self.broken.push((back, Mend::Client(site)));
                self.note("client killed (SIGKILL)", site);
            }
            4 => {
                let status = self.trial.clients[site - 1].terminate();
                assert!(status.success(), "{status}: {}", self.trial.client(site).text());
                self.broken.push((now, Mend::Client(site)));
                self.note("client restarted (SIGTERM)", site);
            }
            5 => {
                self.trial.lines[site - 1].cut();
                let longest = if quick { 4.0 } else { 12.0 };
                let back = now + self.random.seconds(0.5, longest);
                self.broken.push((back, Mend::Line(site)));
                self.note("line cut for seconds", site);
            }
            6 => {
                self.trial.lines[site - 1].freeze();
                self.note("line half open", site);
            }
            7 => {
                self.trial.lines[site - 1].reset();
                self.note("connection reset", site);
            }
            _ => {
                let delay = self.random.seconds(0.0, 0.1);
                let (late_one_in, break_one_in) = (5 + self.random.below(20), 100 + self.random.below(400));
                let bytes_per_s = [0, 400_000, 2_000_000][self.random.below(3) as usize];
                self.trial.lines[site - 1].weather(Weather { delay, bytes_per_s, late_one_in, break_one_in });
                self.note("other weather: delay, loss, bandwidth", site);
            }
        }
    }

    fn note(&mut self, what: &'static str, site: usize) {
        *self.faults.entry(what).or_default() += 1;
        println!(
            "{:6.1} s  {what}{}",
            self.began.elapsed().as_secs_f64(),
            if site > 0 { format!(": site-{site}") } else { String::new() }
        );
    }
}

/// Rounds that were given up.
fn rounds_without(audit: &Audit, rounds: u32) -> usize {
    (1..=rounds)
        .filter(|round| !audit.released.contains_key(round))
        .filter(|round| audit.failed.keys().any(|(of, _)| of == round))
        .count()
}

fn report(
    options: &Options,
    took: Duration,
    faults: &BTreeMap<&str, u32>,
    failed: u32,
    memory_kib: u64,
    audit: &Audit,
) {
    let mut text = format!(
        "Seed {}, {} rounds, {:.0} s on {} processors.\n\n| what | count |\n|---|---|\n",
        options.seed,
        options.rounds,
        took.as_secs_f64(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    let retried = audit.released.values().filter(|(attempt, _)| *attempt > 1).count();
    let whole = audit.released.values().filter(|(_, survivors)| survivors.len() == 5).count();
    let mut why: BTreeMap<&str, u32> = BTreeMap::new();
    audit.failed.values().for_each(|code| *why.entry(code).or_default() += 1);
    let why: Vec<_> = why.iter().map(|(code, count)| format!("{count} {code}")).collect();
    let rows = [
        (
            "rounds released, each sum compared with what its survivors encoded".to_owned(),
            audit.released.len(),
        ),
        ("of these with all five organizations".to_owned(), whole),
        ("of these in a further attempt".to_owned(), retried),
        (format!("attempts that ended without a sum ({})", why.join(", ")), audit.failed.len()),
        ("rounds given up after the plan's attempts".to_owned(), rounds_without(audit, options.rounds)),
        ("votes, none of them two in an attempt".to_owned(), audit.votes),
        ("attempts in which an organization's masked bytes left, each debited once".to_owned(), audit.masked),
        ("debits, none of them two in an attempt".to_owned(), audit.debits),
        ("of these for attempts in which nothing left: died in between".to_owned(), audit.paid_for_nothing),
        ("events in the coordinator's store".to_owned(), audit.events as usize),
        ("peak resident memory of a coordinator process, KiB".to_owned(), memory_kib as usize),
    ];
    for (what, count) in rows {
        text += &format!("| {what} | {count} |\n");
    }
    text += "\n| fault | times |\n|---|---|\n";
    for (what, count) in faults {
        text += &format!("| {what} | {count} |\n");
    }
    assert!(failed as usize <= audit.failed.len(), "{failed} failures were logged");
    println!("\n{text}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/soak");
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("report.md"), text));
    written.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
}
