//! Replacing what nobody should learn: keys, tokens, passwords, e-mail addresses.
//!
//! Known shapes only, after the rules of gitleaks and of the StarCoder data (Li et al. 2023,
//! arXiv:2305.06161): what looks like no known secret stays. A placeholder takes the place, so that the
//! text around it keeps its sense.

use std::borrow::Cow;
use std::ops::AddAssign;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};

/// How many secrets were replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Private keys.
    pub private_keys: u64,
    /// Tokens and passwords.
    pub tokens: u64,
    /// E-mail addresses.
    pub emails: u64,
}

impl Scrubbed {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.private_keys + self.tokens + self.emails
    }
}

impl AddAssign for Scrubbed {
    fn add_assign(&mut self, other: Self) {
        self.private_keys += other.private_keys;
        self.tokens += other.tokens;
        self.emails += other.emails;
    }
}

const PRIVATE_KEY: &str = "<PRIVATE_KEY>";
const TOKEN: &str = "<TOKEN>";
const PASSWORD: &str = "<PASSWORD>";
const EMAIL: &str = "<EMAIL>";

/// Replaces the secrets of `text`.
pub fn scrub(text: String) -> (String, Scrubbed) {
    let mut scrubbed = Scrubbed::default();
    let text = replace(text, &PRIVATE_KEYS, &mut scrubbed.private_keys, |_| Some(PRIVATE_KEY.to_owned()));
    let text = replace(text, &TOKENS, &mut scrubbed.tokens, |_| Some(TOKEN.to_owned()));
    let text = replace(text, &URL_PASSWORDS, &mut scrubbed.tokens, |found| {
        (!is_reference(&found["secret"])).then(|| format!("{}{PASSWORD}@", &found["before"]))
    });
    let text = replace(text, &ASSIGNMENTS, &mut scrubbed.tokens, |found| {
        is_random(&found["secret"]).then(|| format!("{}{TOKEN}", &found["before"]))
    });
    let text =
        replace(text, &EMAILS, &mut scrubbed.emails, |found| is_address(&found[0]).then(|| EMAIL.to_owned()));
    (text, scrubbed)
}

fn replace(
    text: String,
    pattern: &Regex,
    count: &mut u64,
    replacement: impl Fn(&Captures<'_>) -> Option<String>,
) -> String {
    let replaced = pattern.replace_all(&text, |found: &Captures<'_>| match replacement(found) {
        Some(placeholder) => {
            *count += 1;
            placeholder
        }
        None => found[0].to_owned(),
    });
    match replaced {
        Cow::Borrowed(_) => text,
        Cow::Owned(replaced) => replaced,
    }
}

/// Names a variable or a placeholder rather than being a secret.
fn is_reference(secret: &str) -> bool {
    secret.starts_with(['$', '<', '{', '%', '*'])
        || secret.contains("${")
        || secret.eq_ignore_ascii_case("password")
}

/// Letters and digits mixed as in generated secrets.
fn is_random(secret: &str) -> bool {
    let digits = secret.bytes().filter(u8::is_ascii_digit).count();
    let letters = secret.bytes().filter(u8::is_ascii_alphabetic).count();
    digits >= 3 && letters >= 3 && !is_reference(secret)
}

/// Neither a login of a service (`git@github.com:...`) nor a name reserved for examples (RFC 2606).
fn is_address(found: &str) -> bool {
    let (local, domain) = found.split_once('@').unwrap_or((found, ""));
    let domain = domain.to_ascii_lowercase();
    let reserved = ["example.com", "example.org", "example.net", "localhost.localdomain"];
    let is_reserved = reserved.contains(&domain.as_str())
        || [".example", ".invalid", ".test", ".local"].iter().any(|end| domain.ends_with(end));
    local != "git" && !is_reserved
}

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("the pattern is a constant")
}

static PRIVATE_KEYS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-[^-])*?-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----",
    )
});

static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    let shapes = [
        r"(?:AKIA|ASIA)[0-9A-Z]{16}",                                        // Amazon
        r"gh[pousr]_[A-Za-z0-9]{36,255}",                                    // GitHub
        r"github_pat_[A-Za-z0-9_]{60,255}",                                  //
        r"glpat-[A-Za-z0-9_-]{20,}",                                         // GitLab
        r"xox[abeoprs]-[A-Za-z0-9-]{10,}",                                   // Slack
        r"AIza[0-9A-Za-z_-]{35}",                                            // Google
        r"[rs]k_(?:live|test)_[0-9A-Za-z]{16,}",                             // Stripe
        r"sk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}",                             // OpenAI, Anthropic
        r"hf_[A-Za-z0-9]{34}",                                               // Hugging Face
        r"npm_[A-Za-z0-9]{36}",                                              // npm
        r"pypi-[A-Za-z0-9_-]{50,}",                                          // PyPI
        r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",                         // SendGrid
        r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}", // JSON Web Tokens
    ];
    pattern(&format!(r"\b(?:{})", shapes.join("|")))
});

static URL_PASSWORDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?P<before>\b[a-z][a-z0-9+.-]*://[A-Za-z0-9._%+-]+:)(?P<secret>[^\s:/@'\x22]{3,100})@")
});

static ASSIGNMENTS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?P<before>(?i:password|passwd|secret|token|api_?key|access_?key|auth_?key)[A-Za-z_]{0,20}\x22?\s{0,3}(?:=|:)\s{0,3}['\x22]?)(?P<secret>[A-Za-z0-9+/_=.-]{16,200})",
    )
});

static EMAILS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"\b[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
});

#[cfg(test)]
mod tests {
    use super::*;

    /// Put together here, so that no scanner takes this file for a leak.
    fn glue(parts: &[&str]) -> String {
        parts.concat()
    }

    #[test]
    fn secrets_of_known_shape_go() {
        let key =
            glue(&["-----BEGIN RSA PRIVATE", " KEY-----\nMIIE\nabc\n-----END RSA PRIVATE", " KEY-----"]);
        let cases = [
            (format!("a\n{key}\nb"), "a\n<PRIVATE_KEY>\nb".to_owned()),
            (glue(&["id=AKIA", "ABCDEFGHIJKLMNOP;"]), "id=<TOKEN>;".to_owned()),
            (glue(&["export T=ghp", "_", &"a1B2".repeat(9)]), "export T=<TOKEN>".to_owned()),
            (glue(&["https://ada:", "hunter22@host/x"]), "https://ada:<PASSWORD>@host/x".to_owned()),
            (glue(&["API_KEY=\"", "9f8e7d6c5b4a39281706\""]), "API_KEY=\"<TOKEN>\"".to_owned()),
            (glue(&["Ada <ada.l@", "engine.co.uk>, you"]), "Ada <<EMAIL>>, you".to_owned()),
        ];
        for (text, expected) in cases {
            let (found, scrubbed) = scrub(text);
            assert_eq!((found, scrubbed.total()), (expected, 1));
        }
    }

    #[test]
    fn what_only_looks_like_a_secret_stays() {
        let texts = [
            "git clone git@github.com:ada/engine.git",
            "mail someone@example.com",
            "curl https://user:$PASSWORD@host/",
            "token=\"$(cat /run/secrets/token_file_of_service)\"",
            "password=correct-horse-battery-staple",
            "-----BEGIN PUBLIC KEY-----",
            "x=sk-short",
        ];
        for text in texts {
            assert_eq!(scrub(text.to_owned()), (text.to_owned(), Scrubbed::default()));
        }
    }
}
