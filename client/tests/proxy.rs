//! The way out through a proxy: a name that only the proxy knows, a password, and tunnels that are cut when nothing moves.
#![allow(clippy::unwrap_used)]

mod cli_support;
mod link_support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cli_support::{Consortium, id, set_mode};
use consilium_client::{
    egress::{self, Destination, Egress},
    ledger::LedgerState,
    link::{Link, LinkEvent, Proxy, Route, Target, look},
};
use consilium_proto::{
    identity::Identity,
    wire::{self, client_message::Kind as Say},
};
use link_support::{Listener, Resolves};

/// No resolver on earth knows it (RFC 2606).
const NAME: &str = "coordinator.consortium.invalid:7400";
/// "ward:p@ss:word"
const PASSWORD: &str = "d2FyZDpwQHNzOndvcmQ=";

struct Setting {
    consortium: Consortium,
    listener: Listener,
    proxy: link_support::Proxy,
    links: AtomicUsize,
}

impl Setting {
    async fn with(idle: Duration) -> Self {
        let consortium = Consortium::new();
        let roster = Arc::new(consortium.verified().0);
        let (listener, address) = Listener::start(&consortium.identities[3], roster).await;
        let proxy = link_support::Proxy::start(Some(PASSWORD), Resolves { name: NAME, address }, idle).await;
        let credentials = consortium.path("proxy.txt");
        fs::write(&credentials, "ward:p@ss:word\n").unwrap();
        set_mode(&credentials, 0o600);
        Self { consortium, listener, proxy, links: AtomicUsize::new(0) }
    }

    fn route(&self) -> Route {
        let credentials = self.consortium.path("proxy.txt");
        Route::Through(Proxy::new(&self.proxy.address, Some(&credentials)).unwrap())
    }

    fn link(&self, route: Route, keepalive: Duration) -> Link {
        let (roster, plan) = self.consortium.verified();
        let proxy = route.proxy().map(|proxy| proxy.address().to_owned());
        let destination = Destination { coordinator: NAME.to_owned(), proxy };
        let ledger = LedgerState::new(id("titles"), [0; 32]);
        // One process has one state; here there are several links in one process.
        let state = self.consortium.path(&format!("state-{}", self.links.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&state).unwrap();
        let egress = Egress::open(&state, &id("site-1"), destination, &plan, &ledger).unwrap();
        let target = Target::new(NAME, route, &self.consortium.identities[0], Arc::new(roster)).unwrap();
        Link::start(target.with_keepalive(keepalive), egress)
    }
}

/// Opens a session.
async fn greet(link: &mut Link) {
    loop {
        match link.next().await.unwrap() {
            LinkEvent::Connected => link.say(Say::Hello(wire::Hello::default())).await,
            LinkEvent::Heard(_) => return,
            _ => {}
        }
    }
}

async fn why_not(link: &mut Link) -> String {
    loop {
        if let LinkEvent::Disconnected { why, .. } = link.next().await.unwrap() {
            return why;
        }
    }
}

fn asked() -> rustls::pki_types::ServerName<'static> {
    "consilium".try_into().unwrap()
}

#[tokio::test]
async fn the_proxy_resolves_the_name_and_demands_a_password() {
    let setting = Setting::with(Duration::from_secs(600)).await;
    let mut link = setting.link(setting.route(), Duration::from_secs(10));
    greet(&mut link).await;
    link.close().await;
    assert_eq!(*setting.proxy.asked.lock().unwrap(), [format!("CONNECT {NAME} HTTP/1.1")]);
    let lines = egress::read(&setting.consortium.path("state-0"), &id("site-1")).unwrap().lines;
    assert_eq!(lines[0].line.proxy.as_deref(), Some(setting.proxy.address.as_str()));
    assert_eq!(lines[0].line.destination, NAME, "whom the message is for, not who carries it");

    for (credentials, part) in [(None, "demands a password"), (Some("ward:wrong\n"), "does not accept")] {
        let path = setting.consortium.path("other.txt");
        if let Some(text) = credentials {
            fs::write(&path, text).unwrap();
            set_mode(&path, 0o600);
        }
        let proxy = Proxy::new(&setting.proxy.address, credentials.map(|_| path.as_path())).unwrap();
        let mut link = setting.link(Route::Through(proxy), Duration::from_secs(10));
        let why = why_not(&mut link).await;
        assert!(why.contains(part) && why.contains("407") && !why.contains("wrong"), "{why}");
    }
    set_mode(&setting.consortium.path("proxy.txt"), 0o644);
    let exposed =
        Proxy::new(&setting.proxy.address, Some(&setting.consortium.path("proxy.txt"))).unwrap_err();
    assert!(exposed.to_string().contains("chmod 600"), "{exposed}");
}

#[tokio::test]
async fn without_the_proxy_the_name_leads_nowhere() {
    let setting = Setting::with(Duration::from_secs(600)).await;
    let mut link = setting.link(Route::Direct, Duration::from_secs(10));
    why_not(&mut link).await;
    assert!(setting.proxy.asked.lock().unwrap().is_empty());
    assert_eq!(setting.listener.connections.load(Ordering::Relaxed), 0);
}

/// The proxy cuts after two seconds of silence, and pings come ten times a second; in the field it is four minutes and ten seconds, and
/// the compiler holds the one against the other.
#[tokio::test]
async fn pings_keep_a_tunnel_alive_that_silence_would_cut() {
    let idle = Duration::from_secs(2);
    let setting = Setting::with(idle).await;
    let mut link = setting.link(setting.route(), Duration::from_millis(100));
    greet(&mut link).await;
    tokio::time::sleep(3 * idle).await;
    assert_eq!(setting.proxy.cut.load(Ordering::Relaxed), 0, "it was never idle");
    assert_eq!(setting.listener.sessions.load(Ordering::Relaxed), 1, "it is the same session");
}

#[tokio::test]
async fn a_tunnel_that_was_cut_is_dug_again() {
    let setting = Setting::with(Duration::from_millis(300)).await;
    let mut link = setting.link(setting.route(), Duration::from_secs(3600));
    greet(&mut link).await;
    why_not(&mut link).await;
    greet(&mut link).await;
    assert!(setting.proxy.cut.load(Ordering::Relaxed) >= 1);
    assert!(setting.listener.sessions.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn whose_certificate_it_is_is_seen_without_showing_one() {
    let setting = Setting::with(Duration::from_secs(600)).await;
    let roster = setting.consortium.verified().0;
    let seen = look(NAME, &setting.route(), asked()).await.unwrap();
    assert_eq!(seen.key, Some(roster.coordinator().tls_key));
    assert_eq!(setting.listener.connections.load(Ordering::Relaxed), 0, "no handshake was finished");

    // A box that opens TLS shows another certificate, and the link says so.
    let another = Identity::generate(id("inspection-box"), [77; 32]).unwrap();
    let (_, address) = Listener::start(&another, Arc::new(roster)).await;
    let seen = look(&address, &Route::Direct, asked()).await.unwrap();
    assert_ne!(seen.key, Some(setting.consortium.verified().0.coordinator().tls_key));
    assert!(seen.issuer.starts_with("CN="), "{}", seen.issuer);
    let (roster, plan) = setting.consortium.verified();
    let destination = Destination { coordinator: address.clone(), proxy: None };
    let ledger = LedgerState::new(id("titles"), [0; 32]);
    let state = setting.consortium.path("state-of-the-box");
    fs::create_dir(&state).unwrap();
    let egress = Egress::open(&state, &id("site-1"), destination, &plan, &ledger).unwrap();
    let target =
        Target::new(&address, Route::Direct, &setting.consortium.identities[0], Arc::new(roster)).unwrap();
    let mut link = Link::start(target, egress);
    let why = why_not(&mut link).await;
    assert!(why.contains("does not show the coordinator's key") && why.contains("doctor"), "{why}");
    assert!(egress::read(&state, &id("site-1")).unwrap().lines.is_empty(), "and nothing has left");
}
