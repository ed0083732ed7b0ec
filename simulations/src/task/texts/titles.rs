//! The titles of ICD-10-CM codes, and which of them are for training and which for the public test: as the demo splits them.
//!
//! Equal titles (but for case) count once. Test titles come from three-character categories that nobody trains on, so that
//! knowing a sibling code does not help. Order is by salted hashes, so the seed decides it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use consilium_crypto::digest::Digest;

use crate::{scenario::Texts, task::TaskError};

/// The chapters that are told apart, in the order of the labels. Chapter XXII holds five codes and is left out.
pub(super) const CHAPTERS: [(&str, &str); 21] = [
    ("I", "I Infections (A00-B99)"),
    ("II", "II Neoplasms (C00-D49)"),
    ("III", "III Blood and immunity (D50-D89)"),
    ("IV", "IV Endocrine and metabolic (E00-E89)"),
    ("V", "V Mental and behavioral (F01-F99)"),
    ("VI", "VI Nervous system (G00-G99)"),
    ("VII", "VII Eye (H00-H59)"),
    ("VIII", "VIII Ear (H60-H95)"),
    ("IX", "IX Circulatory (I00-I99)"),
    ("X", "X Respiratory (J00-J99)"),
    ("XI", "XI Digestive (K00-K95)"),
    ("XII", "XII Skin (L00-L99)"),
    ("XIII", "XIII Musculoskeletal (M00-M99)"),
    ("XIV", "XIV Genitourinary (N00-N99)"),
    ("XV", "XV Pregnancy and childbirth (O00-O9A)"),
    ("XVI", "XVI Perinatal (P00-P96)"),
    ("XVII", "XVII Congenital (Q00-Q99)"),
    ("XVIII", "XVIII Symptoms and findings (R00-R99)"),
    ("XIX", "XIX Injury and poisoning (S00-T88)"),
    ("XX", "XX External causes (V00-Y99)"),
    ("XXI", "XXI Factors and services (Z00-Z99)"),
];

/// At least one category in so many is kept from training.
const HELD_OUT: usize = 6;

/// One title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Title {
    pub(super) code: String,
    category: String,
    pub(super) text: String,
    /// Index into [`CHAPTERS`].
    pub(super) label: u32,
}

/// What there is to learn from, and to test on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) train: Vec<Title>,
    pub(super) test: Vec<Title>,
}

pub(super) fn split(texts: &Texts, seed: u64) -> Result<Split, TaskError> {
    let mut split = Split { train: Vec::new(), test: Vec::new() };
    for (label, titles) in read(&texts.titles)? {
        let categories: BTreeSet<&String> = titles.iter().map(|title| &title.category).collect();
        let mut order: Vec<_> = categories.iter().map(|it| (salted(seed, "category", it), *it)).collect();
        order.sort();
        let mut held_out: BTreeSet<String> = BTreeSet::new();
        let mut reached = 0;
        for (_, category) in order {
            if held_out.len() * HELD_OUT >= categories.len() && reached >= texts.test_per_label as usize {
                break;
            }
            reached += titles.iter().filter(|title| title.category == *category).count();
            held_out.insert(category.clone());
        }
        let mut drawn: Vec<_> =
            titles.into_iter().map(|title| (salted(seed, "title", &title.code), title)).collect();
        drawn.sort_by_key(|(hash, _)| *hash);
        let (test, train): (Vec<Title>, Vec<Title>) =
            drawn.into_iter().map(|(_, title)| title).partition(|title| held_out.contains(&title.category));
        split.test.extend(test.into_iter().take(texts.test_per_label as usize));
        let before = split.train.len();
        split.train.extend(train.into_iter().take(texts.per_label as usize));
        if split.train.len() == before {
            let chapter = CHAPTERS.get(label as usize).map_or("", |chapter| chapter.1);
            return Err(TaskError(format!(
                "{} leaves chapter {chapter} without a training title",
                texts.titles.display()
            )));
        }
    }
    // Mixed, so that the first thousand, which the evaluator uses between rounds, are of all chapters.
    split.test.sort_by_cached_key(|title| salted(seed, "test", &title.code));
    Ok(split)
}

fn salted(seed: u64, purpose: &str, word: &str) -> [u8; 32] {
    Digest::of(format!("{seed}/{purpose}/{word}").as_bytes()).0
}

fn read(path: &Path) -> Result<BTreeMap<u32, Vec<Title>>, TaskError> {
    let failed = |error: csv::Error| TaskError(format!("{}: {error}", path.display()));
    let mut table = csv::Reader::from_path(path).map_err(failed)?;
    let headers = table.headers().map_err(failed)?.clone();
    let column = |name: &str| {
        let missing = || TaskError(format!("{} has no column {name}", path.display()));
        headers.iter().position(|header| header == name).ok_or_else(missing)
    };
    let places = [column("code")?, column("category")?, column("chapter")?, column("title")?];
    let (mut chapters, mut seen) = (BTreeMap::<u32, Vec<Title>>::new(), BTreeSet::new());
    for row in table.records() {
        let row = row.map_err(failed)?;
        let [code, category, chapter, text] = places.map(|place| row.get(place).unwrap_or_default());
        let Some(label) = CHAPTERS.iter().position(|(name, _)| *name == chapter) else { continue };
        if !seen.insert(text.to_lowercase()) {
            continue;
        }
        let label = u32::try_from(label).unwrap_or(u32::MAX);
        let (code, category, text) = (code.to_owned(), category.to_owned(), text.to_owned());
        chapters.entry(label).or_default().push(Title { code, category, text, label });
    }
    Ok(chapters)
}

/// A title as an organization with its own abbreviations writes it: of the vocabulary's long words, the part `strength` is
/// cut to its first three letters.
pub(super) fn abbreviated(text: &str, seed: u64, organization: usize, strength: f64) -> String {
    let word = |word: &str| {
        let long = word.chars().count() > 4 && word.chars().all(char::is_alphabetic);
        let lower = word.to_lowercase();
        let [first, second, ..] = salted(seed, "abbreviation", &format!("{organization}/{lower}"));
        let drawn = f64::from(u16::from_be_bytes([first, second])) / 65536.0;
        match (long && drawn < strength, word.char_indices().nth(3)) {
            (true, Some((end, _))) => format!("{}.", word.get(..end).unwrap_or(word)),
            _ => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(folder: &Path) -> Texts {
        let mut text = "code,category,chapter,title\n".to_owned();
        for (chapter, _) in CHAPTERS {
            for category in 0..12 {
                for code in 0..5 {
                    text += &format!(
                        "{chapter}{category:02}{code},{chapter}{category:02},{chapter},\"Title {code} of {chapter}, {category}\"\n"
                    );
                }
            }
        }
        text += "U000,U00,XXII,Left out\nI999,I99,I,\"TITLE 0 of I, 0\"\n";
        let path = folder.join("titles.csv");
        std::fs::write(&path, text).unwrap();
        Texts { titles: path, per_label: 30, test_per_label: 7, ..Texts::default() }
    }

    #[test]
    fn nobody_trains_on_a_category_of_the_test() {
        let folder = tempfile::tempdir().unwrap();
        let texts = titles(folder.path());
        let one = split(&texts, 1).unwrap();
        assert_eq!((one.train.len(), one.test.len()), (21 * 30, 21 * 7));
        let tested: BTreeSet<_> = one.test.iter().map(|title| &title.category).collect();
        assert!(one.train.iter().all(|title| !tested.contains(&title.category)));
        assert_eq!(one, split(&texts, 1).unwrap());
        assert_ne!(one, split(&texts, 2).unwrap());
        let codes: BTreeSet<_> = one.train.iter().map(|title| &title.code).collect();
        assert_eq!(codes.len(), one.train.len());
        assert!(!codes.contains(&"I999".to_owned()), "equal titles count once");
    }

    #[test]
    fn abbreviations_are_an_organizations_own() {
        let text = "Cholera due to Vibrio cholerae, biovar eltor";
        assert_eq!(abbreviated(text, 1, 0, 0.0), text);
        assert_eq!(abbreviated(text, 1, 0, 1.0), "Cho. due to Vib. cholerae, bio. elt.");
        let of = |organization| abbreviated(text, 1, organization, 0.5);
        assert!((1..10).any(|organization| of(organization) != of(0)));
    }
}
