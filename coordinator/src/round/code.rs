//! Why an attempt ended without a sum: the words in [`wire::AttemptEnded`](consilium_proto::wire::AttemptEnded), in the
//! operator's table and in the log. The list is fixed, because free text could carry data.

/// Fewer members than the plan's minimum came online before the deadline.
pub const TOO_FEW_ONLINE: &str = "too-few-online";
/// Fewer members than the minimum answered a step before its deadline.
pub const TOO_FEW_ANSWERS: &str = "too-few-answers";
/// So many members declined that the minimum is out of reach.
pub const TOO_MANY_REFUSALS: &str = "too-many-refusals";
/// What members dealt does not give their secrets; the evidence names them.
pub const MISBEHAVIOUR: &str = "misbehaviour";
/// The masked inputs could not be read back from the store.
pub const STORE: &str = "store";
/// Members hold a later state than this coordinator: it was restored from an older copy, and goes on behind them.
pub const RESTORED: &str = "restored";
/// The sum cannot be applied to the adapter.
pub const NOT_APPLICABLE: &str = "not-applicable";
/// An operator ended it.
pub const ABORTED: &str = "operator-abort";
