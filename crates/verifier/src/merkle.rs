//! The Merkle tree of RFC 6962: leaves hashed with the prefix 0, inner nodes with the prefix 1, each node over the
//! largest power of two of leaves on its left.

use sha2::{Digest as _, Sha256};

use crate::Hash;

/// The hash of a leaf.
#[must_use]
pub fn leaf(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that grows leaf by leaf and holds no more than the roots of the perfect trees its leaves fall into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Largest first, one per bit that is set in the size.
    peaks: Vec<Hash>,
}

impl Tree {
    /// The tree of this size with these peaks; none if a tree of the size has another number of them.
    #[must_use]
    pub fn with_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (u32::try_from(peaks.len()) == Ok(size.count_ones())).then_some(Self { size, peaks })
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect trees, largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut grown = leaf;
        // Every bit that the addition carries over joins two trees of one size; there is a peak per bit that is set.
        let kept = self.peaks.len() - self.size.trailing_ones() as usize;
        for left in self.peaks.drain(kept..).rev() {
            grown = node(&left, &grown);
        }
        self.peaks.push(grown);
        self.size += 1;
    }

    /// The root; of an empty tree the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let joined = self.peaks.iter().rev().copied().reduce(|right, left| node(&left, &right));
        joined.unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// The root over these leaves' hashes.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.push(*leaf);
    }
    tree.root()
}

/// The inclusion path of the leaf at `position`, from the bottom up; none if there is no such leaf.
#[must_use]
pub fn path(leaves: &[Hash], position: usize) -> Option<Vec<Hash>> {
    if position >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, beside) = match position.checked_sub(left.len()) {
        None => (path(left, position)?, root(right)),
        Some(position) => (path(right, position)?, root(left)),
    };
    path.push(beside);
    Some(path)
}

/// The root that follows from a leaf's hash, its position among `size` leaves and its path; none if the path has the
/// wrong length.
#[must_use]
pub fn root_of_path(leaf: Hash, position: usize, size: usize, path: &[Hash]) -> Option<Hash> {
    if position >= size {
        return None;
    }
    if size == 1 {
        return path.is_empty().then_some(leaf);
    }
    let (beside, inner) = path.split_last()?;
    let left = split(size);
    match position.checked_sub(left) {
        None => Some(node(&root_of_path(leaf, position, left, inner)?, beside)),
        Some(position) => Some(node(beside, &root_of_path(leaf, position, size - left, inner)?)),
    }
}

/// The largest power of two below a size of at least 2.
fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Hash> {
        (0..count).map(|number| leaf(&[number])).collect()
    }

    /// By the definition of RFC 6962, section 2.1.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(split(many.len()));
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn the_growing_tree_has_the_root_of_the_definition() {
        for count in 0..70 {
            assert_eq!(root(&leaves(count)), by_definition(&leaves(count)), "{count} leaves");
        }
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(crate::hex(&root(&[])), empty);
        let one = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(crate::hex(&root(&[leaf(&[])])), one);
    }

    #[test]
    fn every_leaf_has_a_path_and_no_other_leaf_or_place_has_it() {
        for count in 1..20_u8 {
            let leaves = leaves(count);
            let size = leaves.len();
            for (position, one) in leaves.iter().enumerate() {
                let path = path(&leaves, position).unwrap();
                assert_eq!(root_of_path(*one, position, size, &path), Some(root(&leaves)));
                assert_ne!(root_of_path(leaf(b"x"), position, size, &path), Some(root(&leaves)));
                let elsewhere = (position + 1) % size;
                assert!(size == 1 || root_of_path(*one, elsewhere, size, &path) != Some(root(&leaves)));
                let longer = [path.as_slice(), &[*one]].concat();
                assert_eq!(root_of_path(*one, position, size, &longer), None);
            }
            assert_eq!(path(&leaves, size), None);
        }
    }

    #[test]
    fn a_tree_goes_on_from_its_peaks() {
        let leaves = leaves(37);
        let mut tree = Tree::default();
        leaves[..21].iter().for_each(|leaf| tree.push(*leaf));
        let mut later = Tree::with_peaks(21, tree.peaks().to_vec()).unwrap();
        leaves[21..].iter().for_each(|leaf| later.push(*leaf));
        assert_eq!((later.size(), later.root()), (37, root(&leaves)));
        assert_eq!(Tree::with_peaks(20, tree.peaks().to_vec()), None);
    }
}
