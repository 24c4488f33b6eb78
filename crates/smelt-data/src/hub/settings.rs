//! Where the hub is, who asks, and where files go: the environment variables of Hugging Face's tools.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::HubError;

const ENDPOINT: &str = "https://huggingface.co";

/// How to reach a hub and its cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// What to log in with; sent to the endpoint alone.
    pub token: Option<Token>,
    /// Folder of the cache, which holds a folder per repository.
    pub cache: PathBuf,
    /// Use what is in the cache, and ask nobody.
    pub offline: bool,
    /// Wait before the first retry; each further one waits twice as long.
    pub retry_delay: Duration,
}

/// A secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token `text`; none if that is blank.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl HubSettings {
    /// The settings of this process: `HF_ENDPOINT`, `HF_TOKEN` (else the file at `HF_TOKEN_PATH` or
    /// `HF_HOME/token`), `HF_HUB_CACHE` (else `HF_HOME/hub`), `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`HubError::BadSetting`] if the endpoint is no address, or there is no home folder to cache in.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            let expected = "an address that begins with `https://` or `http://`";
            return Err(HubError::BadSetting { name: "HF_ENDPOINT", value: endpoint, expected });
        }
        let home = match variable("HF_HOME").map(PathBuf::from) {
            Some(home) => home,
            None => {
                let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
                let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
                let missing = || HubError::BadSetting {
                    name: "HF_HOME",
                    value: String::new(),
                    expected: "a folder for the cache, as there is no home folder",
                };
                cache.ok_or_else(missing)?.join("huggingface")
            }
        };
        let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let token_file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = match variable("HF_TOKEN") {
            Some(token) => Token::new(&token),
            None => token_of(&token_file),
        };
        let is_yes = |value: String| matches!(value.to_lowercase().as_str(), "1" | "on" | "yes" | "true");
        let offline = variable("HF_HUB_OFFLINE").is_some_and(is_yes);
        Ok(Self { endpoint, token, cache, offline, retry_delay: Duration::from_millis(500) })
    }
}

fn token_of(file: &Path) -> Option<Token> {
    Token::new(&fs::read_to_string(file).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        HubSettings::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_are_those_of_pythons_tools() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        fs::write(home.path().join("token"), "from-file\n").unwrap();

        let found = settings(&[("HF_HOME", path)]).unwrap();
        assert_eq!((found.endpoint.as_str(), found.offline), (ENDPOINT, false));
        assert_eq!(found.cache, home.path().join("hub"));
        assert_eq!(found.token, Token::new("from-file"));

        let given = [
            ("HF_HOME", path),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_TOKEN", "from-variable"),
            ("HF_HUB_CACHE", "/cache"),
            ("HF_HUB_OFFLINE", "1"),
        ];
        let found = settings(&given).unwrap();
        assert_eq!((found.endpoint.as_str(), found.offline), ("http://mirror", true));
        assert_eq!(found.cache, Path::new("/cache"));
        assert_eq!(found.token, Token::new("from-variable"));
    }

    #[test]
    fn an_endpoint_that_is_no_address_is_refused() {
        let message = settings(&[("HF_ENDPOINT", "mirror.org")]).unwrap_err().to_string();
        assert!(message.starts_with("`HF_ENDPOINT` is `mirror.org`, expected an address"), "{message}");
    }

    #[test]
    fn a_token_is_not_shown() {
        assert_eq!(format!("{:?}", Token::new("secret")), "Some(Token(..))");
    }
}
