//! What exists for tests alone is not in the binary that organizations run.
#![cfg(feature = "torch")]

#[test]
fn the_binary_has_no_test_hooks() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_consilium-client")).unwrap();
    let holds = |needle: &str| binary.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(holds("train-began"), "the search itself works");
    assert!(!holds("CONSILIUM_TEST_"), "the binary was built with test hooks");
    assert!(!holds("consilium/1/simulation"), "the binary holds a simulation's predictable randomness");
}
