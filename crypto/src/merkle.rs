//! Merkle trees over a fixed number of leaves.
//!
//! Leaves, inner nodes and the root are hashed under different labels, and the root covers the number of
//! leaves, so that no node can pass for a leaf and no tree for a tree of another size. A level's odd last
//! node moves up unpaired (as in RFC 6962). Hiding is not the tree's business: a leaf over guessable content
//! needs a salt.

use alloc::vec::Vec;

use crate::digest::{Digest, Transcript};

/// A hashed leaf. Made by [`leaf`] only, so that nothing else can be put where a leaf belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf(Digest);

/// Hashes a leaf of the given kind. Each kind of tree has its own label.
pub fn leaf(label: &'static str, parts: &[&[u8]]) -> Leaf {
    let open = Transcript::with_parts(&[label, "/leaf"]);
    Leaf(parts.iter().fold(open, |transcript, part| transcript.bytes(part)).finish())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Transcript::new("consilium/1/merkle-node").digest(left).digest(right).finish()
}

fn root(leaves: usize, top: &Digest) -> Digest {
    Transcript::new("consilium/1/merkle-root").u64(leaves as u64).digest(top).finish()
}

/// A tree with all its nodes: about `64 * leaves` bytes.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Leaves first, the top (one node) last. Empty when there are no leaves.
    levels: Vec<Vec<Digest>>,
    leaves: usize,
}

impl Tree {
    /// Builds the tree over `leaves`.
    pub fn new(leaves: impl IntoIterator<Item = Leaf>) -> Self {
        let mut level: Vec<Digest> = leaves.into_iter().map(|leaf| leaf.0).collect();
        let count = level.len();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    [odd, ..] => *odd,
                    [] => Digest([0; 32]),
                })
                .collect();
            levels.push(core::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self { levels, leaves: count }
    }

    /// The root. A tree without leaves has one, too.
    pub fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        root(self.leaves, top.unwrap_or(&Digest([0; 32])))
    }

    /// The path of leaf `index`: its siblings from the bottom up, [`path_len`] of them. Empty when there is
    /// no such leaf.
    pub fn path(&self, index: usize) -> Vec<Digest> {
        let (mut index, mut path) = (index, Vec::with_capacity(self.levels.len()));
        for level in &self.levels {
            path.extend(level.get(index ^ 1).copied());
            index /= 2;
        }
        path
    }
}

/// How many siblings the path of leaf `index` has in a tree of `leaves`.
pub fn path_len(leaves: usize, index: usize) -> usize {
    let (mut width, mut index, mut length) = (leaves, index, 0);
    while width > 1 {
        length += usize::from(index ^ 1 < width);
        width = width.div_ceil(2);
        index /= 2;
    }
    length
}

/// The root of the tree of `leaves` in which `leaf` stands at `index` and has this path. `None` when the path
/// has not exactly [`path_len`] siblings or there is no such leaf.
pub fn root_of_path(leaves: usize, index: usize, leaf: Leaf, path: &[Digest]) -> Option<Digest> {
    if index >= leaves || path.len() != path_len(leaves, index) {
        return None;
    }
    let (mut width, mut index, mut top) = (leaves, index, leaf.0);
    let mut siblings = path.iter();
    while width > 1 {
        if index ^ 1 < width {
            let sibling = siblings.next()?;
            top = if index % 2 == 0 { node(&top, sibling) } else { node(sibling, &top) };
        }
        width = width.div_ceil(2);
        index /= 2;
    }
    Some(root(leaves, &top))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Leaf> {
        (0..count as u64).map(|i| leaf("test", &[&i.to_le_bytes()])).collect()
    }

    #[test]
    fn every_leaf_has_a_path_and_no_other_leaf_fits_it() {
        for count in (1..=17).chain([100]) {
            let leaves = leaves(count);
            let tree = Tree::new(leaves.iter().copied());
            for index in 0..count {
                let path = tree.path(index);
                assert_eq!(path.len(), path_len(count, index));
                let root = |leaf, path: &[Digest]| root_of_path(count, index, leaf, path);
                assert_eq!(root(leaves[index], &path), Some(tree.root()));
                for other in (0..count).filter(|other| *other != index) {
                    assert_ne!(root(leaves[other], &path), Some(tree.root()));
                    assert_ne!(
                        root_of_path(count, other, leaves[index], &path),
                        Some(tree.root()),
                        "another place"
                    );
                }
                let mut longer = path.clone();
                longer.push(Digest([0; 32]));
                assert_eq!(root(leaves[index], &longer), None);
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(root(leaves[index], shorter), None);
                }
            }
            assert_eq!(root_of_path(count, count, leaves[0], &[]), None);
        }
    }

    #[test]
    fn the_root_covers_every_leaf_their_number_and_their_kind() {
        let base = Tree::new(leaves(5)).root();
        for index in 0..5 {
            let mut bent = leaves(5);
            bent[index] = leaf("test", &[b"other"]);
            assert_ne!(Tree::new(bent).root(), base);
        }
        assert_ne!(Tree::new(leaves(4)).root(), base);
        assert_ne!(leaf("test", &[b"a"]), leaf("tests", &[b"a"]));
        assert_ne!(leaf("test", &[b"ab"]), leaf("test", &[b"a", b"b"]));
        // A tree of one inner node is not the tree of its two leaves.
        let two = leaves(2);
        let inner = Leaf(node(&two[0].0, &two[1].0));
        assert_ne!(Tree::new([inner]).root(), Tree::new(two).root());
        assert_ne!(Tree::new([]).root(), Tree::new([Leaf(Digest([0; 32]))]).root());
    }
}
