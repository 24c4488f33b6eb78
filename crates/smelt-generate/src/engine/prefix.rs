//! Keys and values of token prefixes, kept for requests that begin alike.
//!
//! A tree: each node holds the tokens between two branchings and their span, so that what prompts share is held
//! once (Zheng et al. 2023, SGLang, arXiv:2312.07104). What was not used for longest goes first, leaves before what
//! they grow on.

use smelt_backend::Kernels;
use smelt_model::KvSpan;

/// The prefixes of one model.
#[derive(Debug)]
pub(super) struct PrefixTree<B: Kernels> {
    roots: Vec<Node<B>>,
    bytes: u64,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Node<B: Kernels> {
    tokens: Vec<u32>,
    span: KvSpan<B>,
    last_used: u64,
    children: Vec<Node<B>>,
}

impl<B: Kernels> PrefixTree<B> {
    pub fn new() -> Self {
        Self { roots: Vec::new(), bytes: 0, clock: 0 }
    }

    /// Memory of all spans.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the spans of the longest prefix of `tokens` that is held to `take`, in order, each with how many of its
    /// positions belong to the prefix.
    pub fn longest(&mut self, tokens: &[u32], mut take: impl FnMut(&KvSpan<B>, usize)) -> usize {
        self.clock += 1;
        let (mut nodes, mut found) = (&mut self.roots, 0);
        loop {
            let rest = &tokens[found..];
            let Some(node) = nodes.iter_mut().find(|node| node.shared(rest) > 0) else { return found };
            let shared = node.shared(rest);
            node.last_used = self.clock;
            take(&node.span, shared);
            found += shared;
            if shared < node.tokens.len() {
                return found;
            }
            nodes = &mut node.children;
        }
    }

    /// Holds `tokens`; `span_from` gives the span of those from a position on, if it can.
    pub fn insert(&mut self, tokens: &[u32], span_from: impl FnOnce(usize) -> Option<KvSpan<B>>) {
        self.clock += 1;
        let clock = self.clock;
        let (mut nodes, mut found) = (&mut self.roots, 0);
        while let Some(index) = nodes.iter().position(|node| node.shared(&tokens[found..]) > 0) {
            let node = &mut nodes[index];
            node.last_used = clock;
            let shared = node.shared(&tokens[found..]);
            found += shared;
            if shared < node.tokens.len() && found < tokens.len() {
                let before = node.span.bytes();
                node.split(shared);
                // Packed rows and padding may round otherwise in two parts.
                self.bytes = self.bytes - before + node.span.bytes() + node.children[0].span.bytes();
            }
            if shared < node.tokens.len() {
                return;
            }
            nodes = &mut nodes[index].children;
        }
        if found == tokens.len() {
            return;
        }
        if let Some(span) = span_from(found) {
            assert_eq!(span.len(), tokens.len() - found, "positions of the span of a new prefix");
            self.bytes += span.bytes();
            let tokens = tokens[found..].to_vec();
            nodes.push(Node { tokens, span, last_used: clock, children: Vec::new() });
        }
    }

    /// All nodes, parents before children: the number of the parent, the tokens, and their span.
    pub fn nodes(&self) -> Vec<(Option<usize>, &[u32], &KvSpan<B>)> {
        let mut nodes = Vec::new();
        let mut open: Vec<(Option<usize>, &Node<B>)> = self.roots.iter().map(|root| (None, root)).collect();
        while let Some((parent, node)) = open.pop() {
            let number = nodes.len();
            nodes.push((parent, node.tokens.as_slice(), &node.span));
            open.extend(node.children.iter().map(|child| (Some(number), child)));
        }
        nodes
    }

    /// Forgets prefixes until they take at most `limit_bytes`.
    pub fn shrink(&mut self, limit_bytes: u64) {
        while self.bytes > limit_bytes {
            let Some(oldest) = oldest_leaf(&self.roots) else { return };
            self.bytes -= remove_leaf(&mut self.roots, oldest);
        }
    }
}

impl<B: Kernels> Node<B> {
    /// Tokens at the beginning of `tokens` that are this node's.
    fn shared(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(held, token)| held == token).count()
    }

    /// Leaves the first `at` tokens here and moves the others to a node below.
    fn split(&mut self, at: usize) {
        let below = Self {
            tokens: self.tokens.split_off(at),
            span: self.span.part(at..self.span.len()),
            last_used: self.last_used,
            children: std::mem::take(&mut self.children),
        };
        self.span = self.span.part(0..at);
        self.children.push(below);
    }
}

/// When the leaf that was not used for longest was used.
fn oldest_leaf<B: Kernels>(nodes: &[Node<B>]) -> Option<u64> {
    let of = |node: &Node<B>| oldest_leaf(&node.children).unwrap_or(node.last_used);
    nodes.iter().map(of).min()
}

/// Removes a leaf that was used at `last_used` and returns its bytes.
fn remove_leaf<B: Kernels>(nodes: &mut Vec<Node<B>>, last_used: u64) -> u64 {
    let leaf = |node: &Node<B>| node.children.is_empty() && node.last_used == last_used;
    if let Some(index) = nodes.iter().position(leaf) {
        return nodes.swap_remove(index).span.bytes();
    }
    for node in nodes {
        let bytes = remove_leaf(&mut node.children, last_used);
        if bytes > 0 {
            return bytes;
        }
    }
    0
}
