//! A consortium whose processes run, each client behind a line of its own if a test wants to break it.

use std::path::PathBuf;

use crate::{
    Consortium, Process, Shape,
    audit::{Audit, audit},
    line::Line,
    wait_until,
};

/// A running consortium: one coordinator, five clients.
pub struct Trial {
    /// Its files.
    pub consortium: Consortium,
    /// The coordinator's process.
    pub coordinator: Process,
    /// The clients' processes, of site 1 and so on.
    pub clients: Vec<Process>,
    /// Their lines, if they have any.
    pub lines: Vec<Line>,
    /// Milliseconds that each client trains, and that it waits at most between two tries to connect.
    patience: (u32, Option<u32>),
}

/// A program of this package.
fn program(name: &str) -> String {
    let this = std::env::current_exe().expect("this program");
    // Tests lie one folder deeper than programs.
    let found = this.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found
        .unwrap_or_else(|| panic!("{name} is not built: cargo build -p consilium-tests"))
        .display()
        .to_string()
}

impl Trial {
    /// Everybody starts, and trains for so long.
    pub fn start(shape: &Shape, train_ms: u32) -> Self {
        Self::begin(shape, (train_ms, None), false)
    }

    /// The same, with clients that try again soon, however often the coordinator dies.
    pub fn start_eager(shape: &Shape) -> Self {
        Self::begin(shape, (0, Some(200)), false)
    }

    /// The same, with a line between each client and the coordinator.
    pub fn start_on_lines(shape: &Shape, train_ms: u32) -> Self {
        Self::begin(shape, (train_ms, None), true)
    }

    fn begin(shape: &Shape, patience: (u32, Option<u32>), on_lines: bool) -> Self {
        let consortium = Consortium::found(shape);
        let lines: Vec<_> =
            (0..if on_lines { 5 } else { 0 }).map(|seed| Line::to(&consortium.address, seed)).collect();
        for (site, line) in (1..).zip(&lines) {
            consortium.configure_at(site, "plan.toml", line.address());
        }
        let coordinator = coordinator(&consortium, &[]);
        let clients = (1..=5).map(|site| client(&consortium, site, patience, None)).collect();
        Self { consortium, coordinator, clients, lines, patience }
    }

    /// Starts the coordinator again, to die at an event if one is given.
    pub fn restart_coordinator(&mut self, die: Option<&str>) {
        let variables: Vec<_> = die.map(|die| ("CONSILIUM_TEST_DIE", die)).into_iter().collect();
        self.coordinator = coordinator(&self.consortium, &variables);
    }

    /// Starts a site's client again, to die at a record if one is given.
    pub fn restart_client(&mut self, site: usize, die: Option<&str>) {
        self.clients[site - 1] = client(&self.consortium, site, self.patience, die);
    }

    /// The client of a site.
    pub fn client(&self, site: usize) -> &Process {
        &self.clients[site - 1]
    }

    /// Waits until everybody has come to the job's end, stops the coordinator, and looks at what they left.
    pub fn finish(self) -> Audit {
        self.finish_keeping(|| {})
    }

    /// The same, with a look at the files before they go.
    pub fn finish_keeping(mut self, look: impl FnOnce()) -> Audit {
        for client in &mut self.clients {
            let status = client.wait();
            assert!(status.success(), "{status}: {}", client.text());
        }
        let status = self.coordinator.terminate();
        assert!(status.success(), "{status}: {}", self.coordinator.text());
        let audit = audit(&self.consortium);
        look();
        audit
    }

    /// Stops everybody where they are, and looks at what they left.
    pub fn stop(mut self) -> Audit {
        for client in &mut self.clients {
            let status = client.terminate();
            assert!(status.success(), "{status}: {}", client.text());
        }
        let status = self.coordinator.terminate();
        assert!(status.success(), "{status}: {}", self.coordinator.text());
        audit(&self.consortium)
    }

    /// Waits until the coordinator's log says that a round was released.
    pub fn released(&self, round: u64) {
        let log = || self.coordinator.text();
        let found = || {
            let of = |event: &serde_json::Value| {
                event["message"] == "released" && event["round"].as_u64() >= Some(round)
            };
            self.coordinator.events().iter().any(of).then_some(())
        };
        wait_until(&format!("round {round} to be released"), log, found);
    }
}

fn coordinator(consortium: &Consortium, variables: &[(&str, &str)]) -> Process {
    let config = consortium.path("coordinator.toml").display().to_string();
    let log = consortium.path("coordinator.log");
    Process::start_with(&program("hooked-coordinator"), &["--config", &config], variables, log)
}

fn client(consortium: &Consortium, site: usize, patience: (u32, Option<u32>), die: Option<&str>) -> Process {
    let config = consortium.path(&format!("site-{site}.toml")).display().to_string();
    let log: PathBuf = consortium.path(&format!("site-{site}.log"));
    let (train_ms, backoff_ms) = (patience.0.to_string(), patience.1.map(|ms| ms.to_string()));
    let mut variables = vec![("CONSILIUM_TEST_TRAIN_MS", train_ms.as_str())];
    variables.extend(backoff_ms.as_deref().map(|ms| ("CONSILIUM_TEST_BACKOFF_MS", ms)));
    variables.extend(die.map(|die| ("CONSILIUM_TEST_DIE", die)));
    Process::start_with(&program("hooked-client"), &["run", "--config", &config], &variables, log)
}
