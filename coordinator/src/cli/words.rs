//! What codes mean, for a person: why attempts end, why members decline, and which commands help.

/// Why an attempt ended so.
pub(super) fn outcome(code: &str) -> &'static str {
    match code {
        "released" => "its sum was published",
        "too-few-online" => "fewer members than the plan's minimum came online before the deadline",
        "too-few-answers" => "fewer members than the plan's minimum answered a step before its deadline",
        "too-many-refusals" => "so many members declined that the minimum was out of reach",
        "misbehaviour" => "what members dealt does not give their secrets; the evidence names them",
        "store" => "the masked inputs could not be read back from the coordinator's disk",
        "not-applicable" => "the sum cannot be applied to the adapter",
        "operator-abort" => "an operator ended it",
        _ => "a code that this version of the software does not know",
    }
}

/// Why a member declines or is left out, and what helps.
pub(super) fn absence(code: &str) -> &'static str {
    match code {
        "" => "it said nothing: it was away, or too slow",
        "budget" => "the attempt would pass its budget: `consilium-client ledger show` there",
        "hours" => "its policy allows no training at this hour",
        "restarted" => "it restarted in the middle of the attempt, and sits the rest of it out",
        "answered-already" => "it has answered already and says nothing twice",
        "state-restored" => "its state was restored from an old copy: `consilium-client state recover` there",
        "waits-for-witnesses" => "it has just started and waits for its peers' word about its state",
        "old-attempt" => "it has seen a later attempt: was the coordinator restored from an old copy?",
        "other-adapter" | "other-optimizer" => "it computed another adapter than the coordinator announces",
        "other-documents" => "it holds another roster or plan",
        "suspended" => "an operator suspended it: `consilium member resume`",
        "sits-out" => "it let earlier attempts down, and sits rounds out",
        "excluded" => "evidence convicts it: `consilium blame export`",
        "rejected" => "its own people have not approved the plan: `consilium-client plan approve` there",
        "paused" => "its own people paused it: `consilium-client resume` there",
        "stopped" => "its own people stopped it",
        "left" => "its own people left the job",
        _ => "the check of that number in the manual's table; its own log says more",
    }
}

/// What happens at a deadline.
pub(super) fn at_deadline(word: &str, attempt: u32, most: u32) -> String {
    match word {
        "goes-on" => "the step ends, and the attempt goes on without whoever is missing".into(),
        "retry" => {
            format!("the attempt fails, and the round is tried again (attempt {} of {most})", attempt + 1)
        }
        "next-round" => "the attempt fails, and the next round begins".into(),
        "job-ends" => "the attempt fails, and the job ends with it".into(),
        _ => "nothing: no deadline runs".into(),
    }
}

/// What a hold means.
pub(super) fn hold(word: &str) -> &'static str {
    match word {
        "not-started" => "the job waits to be started: `consilium job start`",
        "paused" => "an operator paused the job: `consilium job resume`",
        "stopping" => "an operator stops the job: it ends with the running attempt",
        "stopped" => "an operator stopped the job for good",
        _ => "",
    }
}
