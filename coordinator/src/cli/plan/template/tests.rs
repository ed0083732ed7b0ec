//! The template in the help text is one, and names its defaults rightly.

use consilium_proto::plan::Encoding;

use super::*;

#[test]
fn the_template_in_the_help_is_a_template_and_its_defaults_are_named_rightly() {
    let shown: String = HELP
        .lines()
        .skip_while(|line| !line.contains("job = "))
        .take_while(|line| !line.starts_with("For a trainer"))
        .map(|line| line.trim_start())
        .filter(|line| !line.contains("seed = "))
        .fold(String::new(), |all, line| all + line + "\n");
    let template: Template = toml::from_str(&shown).unwrap();
    assert_eq!(template.rounds, 60);
    // With the comment marks gone, every field is one that the template knows.
    let all = shown.replace("# ", "");
    let all: String = all
        .lines()
        .map(|line| {
            // A field's own explanation follows two spaces or more.
            let end = line.find("   ").unwrap_or(line.len());
            line[..end].to_owned() + "\n"
        })
        .collect();
    let full: Template = toml::from_str(&all).unwrap_or_else(|e| panic!("{e}\n{all}"));
    let defaults = DeadlinesPart::default().fill();
    assert_eq!(full.deadlines.fill(), defaults);
    assert_eq!(full.retries.max_attempts, Some(2));
    assert_eq!(full.evaluation.every_rounds, Some(5));
    let (shown, _) = full.encoding.fill(44_949.0, 1.0, 7.0);
    let (meant, narrowest) = EncodingPart::default().fill(44_949.0, 1.0, 7.0);
    assert!(narrowest);
    assert_eq!(Encoding { ring_bits: 32, ..shown }, meant);
}
