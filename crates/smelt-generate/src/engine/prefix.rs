//! Keys and values of token prefixes, kept for requests that begin alike.
//!
//! A tree: each node holds the tokens between two branchings and their span, so that what prompts share is held
//! once (Zheng et al. 2023, SGLang, arXiv:2312.07104). What was not used for longest goes first, leaves before what
//! they grow on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use smelt_backend::Kernels;
use smelt_model::KvSpan;

/// The prefixes of one model.
#[derive(Debug)]
pub(super) struct PrefixTree<B: Kernels> {
    nodes: HashMap<Number, Node<B>>,
    /// Nodes at which texts begin.
    roots: Children,
    /// Nodes without children and when each was used, the one that was not for longest first.
    leaves: BTreeSet<(u64, Number)>,
    bytes: u64,
    /// Counts uses.
    clock: u64,
    /// Counts nodes that were made.
    made: Number,
}

/// Tells nodes apart.
type Number = u64;

/// Nodes by their first token: no two begin alike.
type Children = BTreeMap<u32, Number>;

#[derive(Debug)]
struct Node<B: Kernels> {
    /// At least one.
    tokens: Vec<u32>,
    span: KvSpan<B>,
    last_used: u64,
    parent: Option<Number>,
    children: Children,
}

impl<B: Kernels> PrefixTree<B> {
    pub fn new() -> Self {
        let (nodes, roots, leaves) = (HashMap::new(), Children::new(), BTreeSet::new());
        Self { nodes, roots, leaves, bytes: 0, clock: 0, made: 0 }
    }

    /// Memory of all spans.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the spans of the longest prefix of `tokens` that is held to `take`, in order, each with how many of its
    /// positions belong to the prefix.
    pub fn longest(&mut self, tokens: &[u32], mut take: impl FnMut(&KvSpan<B>, usize)) -> usize {
        self.clock += 1;
        let (mut parent, mut found) = (None, 0);
        while let Some((number, shared)) = self.next(parent, &tokens[found..]) {
            let node = &self.nodes[&number];
            take(&node.span, shared);
            found += shared;
            if shared < node.tokens.len() {
                break;
            }
            parent = Some(number);
        }
        found
    }

    /// Holds `tokens`; `span_from` gives the span of those from a position on, if it can.
    pub fn insert(&mut self, tokens: &[u32], span_from: impl FnOnce(usize) -> Option<KvSpan<B>>) {
        self.clock += 1;
        let (mut parent, mut found) = (None, 0);
        while let Some((number, shared)) = self.next(parent, &tokens[found..]) {
            found += shared;
            if found < tokens.len() && shared < self.nodes[&number].tokens.len() {
                self.split(number, shared);
            }
            parent = Some(number);
        }
        if found == tokens.len() {
            return;
        }
        if let Some(span) = span_from(found) {
            assert_eq!(span.len(), tokens.len() - found, "positions of the span of a new prefix");
            let tokens = tokens[found..].to_vec();
            self.add(Node { tokens, span, last_used: self.clock, parent, children: Children::new() });
        }
    }

    /// All nodes, parents before children: the place of the parent among them, the tokens, and their span.
    pub fn nodes(&self) -> Vec<(Option<usize>, &[u32], &KvSpan<B>)> {
        let mut nodes = Vec::new();
        let mut open: Vec<(Option<usize>, Number)> = self.roots.values().map(|root| (None, *root)).collect();
        while let Some((parent, number)) = open.pop() {
            let (node, place) = (&self.nodes[&number], nodes.len());
            nodes.push((parent, node.tokens.as_slice(), &node.span));
            open.extend(node.children.values().map(|child| (Some(place), *child)));
        }
        nodes
    }

    /// Forgets prefixes until they take at most `limit_bytes`.
    pub fn shrink(&mut self, limit_bytes: u64) {
        while self.bytes > limit_bytes {
            let oldest = self.leaves.pop_first().and_then(|(_, number)| self.nodes.remove(&number));
            let Some(oldest) = oldest else { return };
            self.bytes -= oldest.span.bytes();
            self.children(oldest.parent).remove(&oldest.tokens[0]);
            if let Some(parent) = oldest.parent
                && self.nodes[&parent].children.is_empty()
            {
                self.leaves.insert((self.nodes[&parent].last_used, parent));
            }
        }
    }

    /// The node below `parent` with which `tokens` go on, now used, and how many of them are its.
    fn next(&mut self, parent: Option<Number>, tokens: &[u32]) -> Option<(Number, usize)> {
        let number = *self.children(parent).get(tokens.first()?)?;
        let node = self.nodes.get_mut(&number)?;
        if self.leaves.remove(&(node.last_used, number)) {
            self.leaves.insert((self.clock, number));
        }
        node.last_used = self.clock;
        Some((number, node.tokens.iter().zip(tokens).take_while(|(held, token)| held == token).count()))
    }

    /// The nodes below `parent`.
    fn children(&mut self, parent: Option<Number>) -> &mut Children {
        match parent.and_then(|parent| self.nodes.get_mut(&parent)) {
            Some(parent) => &mut parent.children,
            None => &mut self.roots,
        }
    }

    fn add(&mut self, node: Node<B>) {
        let number = self.made;
        self.made += 1;
        self.bytes += node.span.bytes();
        self.children(node.parent).insert(node.tokens[0], number);
        if let Some(parent) = node.parent {
            self.leaves.remove(&(self.nodes[&parent].last_used, parent));
        }
        for child in node.children.values() {
            if let Some(child) = self.nodes.get_mut(child) {
                child.parent = Some(number);
            }
        }
        if node.children.is_empty() {
            self.leaves.insert((node.last_used, number));
        }
        self.nodes.insert(number, node);
    }

    /// Leaves the first `at` tokens in a node and moves the others to one below.
    fn split(&mut self, number: Number, at: usize) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let below = Node {
            tokens: node.tokens.split_off(at),
            span: node.span.part(at..node.span.len()),
            last_used: node.last_used,
            parent: Some(number),
            children: std::mem::take(&mut node.children),
        };
        let before = node.span.bytes();
        node.span = node.span.part(0..at);
        // Packed rows and padding may round otherwise in two parts.
        self.bytes = self.bytes - before + node.span.bytes();
        self.add(below);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use smelt_model::{CacheOptions, load};
    use smelt_testkit::{Golden, backend_test};

    use super::*;
    use crate::decoding::Sequence;

    backend_test!(what_is_held_is_found, found);
    backend_test!(what_was_used_last_stays, stays);

    /// `length` positions of some text.
    fn whole<B: Kernels>(length: u32, device: &B::Device) -> KvSpan<B> {
        let (_, model) = load::<B>(&Golden::open("gpt2").folder, device).unwrap();
        let options = CacheOptions::new(length as usize);
        let mut sequence = Sequence::new(&model, (0..length).collect(), options, device);
        sequence.logits(&model, device);
        sequence.span(0).unwrap()
    }

    /// Texts of few tokens, so that many begin alike.
    fn texts(count: u64) -> Vec<Vec<u32>> {
        let text = |number: u64| {
            let bits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            (0..1 + bits % 12).map(|at| (bits >> (4 + 2 * at)) as u32 % 3).collect()
        };
        (0..count).map(text).collect()
    }

    fn insert<B: Kernels>(tree: &mut PrefixTree<B>, text: &[u32], whole: &KvSpan<B>) {
        tree.insert(text, |from| Some(whole.part(from..text.len())));
        let nodes = tree.nodes();
        assert_eq!(tree.bytes(), nodes.iter().map(|(_, _, span)| span.bytes()).sum::<u64>());
        assert!(
            nodes.iter().enumerate().all(|(place, (parent, ..))| parent.is_none_or(|parent| parent < place))
        );
        assert!(nodes.iter().all(|(_, tokens, span)| tokens.len() == span.len()));
    }

    fn found<B: Kernels>(device: &B::Device) {
        let (whole, mut tree, mut held) = (whole::<B>(12, device), PrefixTree::new(), BTreeSet::new());
        for text in texts(200) {
            let expected =
                (0..=text.len()).rev().find(|length| *length == 0 || held.contains(&text[..*length]));
            let mut taken = 0;
            assert_eq!(
                Some(tree.longest(&text, |span, count| {
                    assert!(count <= span.len());
                    taken += count;
                })),
                expected
            );
            assert_eq!(Some(taken), expected);
            insert(&mut tree, &text, &whole);
            held.extend((1..=text.len()).map(|length| text[..length].to_vec()));
        }
        let positions: usize = tree.nodes().iter().map(|(_, tokens, _)| tokens.len()).sum();
        assert_eq!(positions, held.len(), "each prefix is held once");
    }

    fn stays<B: Kernels>(device: &B::Device) {
        let (whole, mut tree) = (whole::<B>(12, device), PrefixTree::new());
        let limit = 40 * whole.part(0..1).bytes();
        let mut before = Vec::new();
        for text in texts(200) {
            // Both are shorter than the limit together.
            tree.longest(&before, |_, _| ());
            insert(&mut tree, &text, &whole);
            tree.shrink(limit);
            assert!(tree.bytes() <= limit);
            assert_eq!(tree.longest(&before, |_, _| ()), before.len());
            assert_eq!(tree.longest(&text, |_, _| ()), text.len());
            before = text;
        }
        tree.shrink(0);
        assert_eq!((tree.bytes(), tree.nodes().len(), tree.roots.len()), (0, 0, 0));
    }
}
