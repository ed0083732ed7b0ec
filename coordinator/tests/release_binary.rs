//! What exists for simulations alone is not in the binaries that operators run.

#[test]
fn the_binaries_hold_no_predictable_randomness() {
    for path in [env!("CARGO_BIN_EXE_consilium-coordinator"), env!("CARGO_BIN_EXE_consilium")] {
        let binary = std::fs::read(path).unwrap();
        let holds = |needle: &str| binary.windows(needle.len()).any(|window| window == needle.as_bytes());
        // Whatever is hashed begins so, simulated or not: the search itself works.
        assert!(holds("consilium/1/"), "{path}");
        assert!(!holds("consilium/1/simulation"), "{path} holds a simulation's predictable randomness");
        assert!(!holds("CONSILIUM_TEST_"), "{path} was built with test hooks");
    }
}
