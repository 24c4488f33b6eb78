//! Where one text stands in its grammar.

use std::fmt;

use llguidance::Matcher;

use super::compiler::reason;
use crate::error::GenerateError;
use crate::sampling::TokenMask;

/// Follows one sequence through a grammar: says which tokens may come next, and takes the one that came.
///
/// Masks of several sequences may be computed on several threads. A copy goes its own way from where it was
/// made.
pub struct Constraint {
    matcher: Matcher,
    kind: &'static str,
    /// That of the next position, once it was asked for.
    mask: Option<TokenMask>,
}

impl Constraint {
    pub(super) fn new(matcher: Matcher, kind: &'static str) -> Self {
        Self { matcher, kind, mask: None }
    }

    /// The tokens that may come next; stop tokens are among them where the text is complete, and are all there
    /// is once nothing can follow.
    ///
    /// # Errors
    /// [`GenerateError::Grammar`] if no token of the vocabulary continues the text, or it takes too long to
    /// find out.
    pub fn allowed(&mut self) -> Result<&TokenMask, GenerateError> {
        let mask = match self.mask.take() {
            Some(mask) => mask,
            None => TokenMask::from_words(self.matcher.compute_mask_or_eos().map_err(self.failed())?.into()),
        };
        Ok(self.mask.insert(mask))
    }

    /// Goes on with `token`. A stop token changes nothing once the text is finished.
    ///
    /// # Errors
    /// [`GenerateError::Grammar`] if the token was not allowed.
    pub fn accept(&mut self, token: u32) -> Result<(), GenerateError> {
        if self.is_finished() {
            let allowed = self.allowed()?.allows(token);
            return if allowed { Ok(()) } else { Err(self.failed()("the text has ended before this token")) };
        }
        self.mask = None;
        self.matcher.consume_token(token).map_err(self.failed())
    }

    /// Whether the text is complete and nothing can follow but its end.
    pub fn is_finished(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// Whether the text may end here.
    ///
    /// # Errors
    /// [`GenerateError::Grammar`] after another error.
    pub fn is_complete(&mut self) -> Result<bool, GenerateError> {
        Ok(self.is_finished() || self.matcher.is_accepting().map_err(self.failed())?)
    }

    fn failed<E: fmt::Display>(&self) -> impl FnOnce(E) -> GenerateError + use<E> {
        let kind = self.kind;
        move |error| GenerateError::Grammar { kind, reason: reason(&error.to_string()) }
    }
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        // With lexers of their own, copies do not wait for each other.
        Self { matcher: self.matcher.deep_clone(), kind: self.kind, mask: self.mask.clone() }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Constraint")
            .field("kind", &self.kind)
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
