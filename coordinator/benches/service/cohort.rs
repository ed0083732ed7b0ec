//! A coordinator and its whole cohort, and rounds of them.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use consilium_coordinator::store::{InputLayout, SqliteStore, Store as _, StoredJob};
use consilium_proto::release::unpack_sum;
use tokio::sync::Semaphore;

use crate::{
    Result,
    generator::{Failed, Member, Shape, expected_sum},
    server::Server,
};

/// The release binary.
pub fn coordinator() -> Vec<String> {
    vec![env!("CARGO_BIN_EXE_consilium-coordinator").to_owned()]
}

/// The first organizations, connected.
pub async fn connect(server: &Server, count: u16) -> Result<Vec<Member>> {
    // The generator's masks are not what is measured: no more at once than there are processors.
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let turns = Arc::new(Semaphore::new(processors));
    let mut members = Vec::new();
    for index in 0..usize::from(count) {
        let mut member = Member::connect(&server.consortium, index, server.address).await.map_err(words)?;
        member.masking = Some(turns.clone());
        members.push(member);
    }
    Ok(members)
}

/// What each member does in a round, for all of them at once: what each came back with, and how long it took them.
pub async fn all<F, T>(
    members: Vec<Member>,
    each: impl Fn(Member) -> F,
) -> Result<(Vec<Member>, Vec<T>, Duration)>
where
    F: Future<Output = Result<(Member, T), Failed>> + Send + 'static,
    T: Send + 'static,
{
    let began = Instant::now();
    let running: Vec<_> = members.into_iter().map(|member| tokio::spawn(each(member))).collect();
    let (mut back, mut results) = (Vec::new(), Vec::new());
    for member in running {
        let (member, result) = member.await?.map_err(words)?;
        back.push(member);
        results.push(result);
    }
    Ok((back, results, began.elapsed()))
}

/// A whole secure round.
pub async fn round(mut member: Member) -> Result<(Member, u64), Failed> {
    let uploaded = member.round().await?;
    Ok((member, uploaded))
}

pub fn words(failed: Failed) -> Box<dyn std::error::Error> {
    failed.0.into()
}

/// Fails unless the sum of every round in a stopped coordinator's store is that of all members' updates.
pub fn check_sums(server: &Server, state: &Path, members: u16, rounds: u32) -> Result<()> {
    let plan = &server.consortium.plan;
    let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
    let store = SqliteStore::open(state, &job)?;
    let expected = expected_sum(plan, 0..usize::from(members));
    for round in 1..=rounds {
        let row = store.release(round)?.ok_or_else(|| format!("round {round} is not published"))?;
        check_sum(&unpack_sum(plan, &row.sum)?, &expected, round)?;
    }
    Ok(())
}

/// Fails unless a sum is the expected one.
pub fn check_sum(sum: &[u32], expected: impl Fn(usize) -> u32, round: u32) -> Result<()> {
    match sum.iter().enumerate().position(|(j, value)| *value != expected(j)) {
        None => Ok(()),
        Some(j) => Err(format!("round {round}: element {j} of the sum is wrong").into()),
    }
}

/// A consortium for one measurement.
pub fn shape(members: u16, dimension: u32, rounds: u32) -> Shape {
    Shape { members, dimension, rounds, deadline_s: 3600, ..Shape::default() }
}
