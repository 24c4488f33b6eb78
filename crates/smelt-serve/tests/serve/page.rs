//! The page to chat on, in a browser. Where there is none, the tests say so and pass.

use serde_json::json;

use crate::browser::Browser;
use crate::client::get;
use crate::setup::Running;

const SKIPPED: &str = "skipped: no Chromium here; `SMELT_CHROMIUM` names one";

/// An answer as models write it, with what a hostile one would.
const ANSWER: &str = r##"## A script

The loop *visits* each **file**; see [the manual](https://www.gnu.org/software/bash/manual/) and `man bash`:

```bash
#!/usr/bin/env bash
for file in *.txt; do
  printf '%s\n' "$file"   # <b>not bold</b>
done
```

1. Quote what expands.
2. Check what fails:
   - `set -e`
   - `trap`

> Blanks in names are no trouble then.

| option | meaning |
|---|---|
| `-e` | ends at an error |
| `-u` | unset names are errors |

<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>
[click](javascript:document.title='broken') 2 * 3 * 4 and snake_case_name stay as they are."##;

fn ask(browser: &mut Browser, text: &str) {
    browser.value("document.getElementById('words').focus()");
    browser.type_text(text);
    browser.press("Enter", 13);
}

const DONE: &str = "!running && document.querySelector('.turn.assistant:last-child .figures')?.textContent.includes('tokens')";

#[test]
fn the_page_asks_nobody_else() {
    let server = Running::start();
    let page = get(server.address, "/");
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "script-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!page.body.contains("innerHTML") && !page.body.contains("src=\"http"));
}

#[test]
fn a_conversation_streams_stops_and_stays() {
    let Some(mut browser) = Browser::start() else { return println!("{SKIPPED}") };
    let server = Running::start();
    let address = format!("http://{}/", server.address);
    browser.look(1100, 800, "light");
    browser.open(&address);
    assert_eq!(browser.value("models"), json!(["nano", "other/nano"]));
    assert_eq!(browser.value("document.querySelector('h1').textContent"), "What is on your mind?");
    browser.picture("empty");

    browser.value("settings = { max_tokens: 24, seed: 3, temperature: 0 }");
    ask(&mut browser, "the moon");
    browser.wait(DONE);
    let said = browser.value("talk().turns.map(turn => turn.role)");
    assert_eq!(said, json!(["user", "assistant"]));
    let figures = browser.value("document.querySelector('.turn.assistant .figures').textContent");
    assert!(figures.as_str().unwrap().starts_with("24 tokens, "), "{figures}");
    assert!(figures.as_str().unwrap().contains(" tokens/s, first after "), "{figures}");

    // Once more, with another beginning.
    let first = browser.value("talk().turns[1].content");
    browser.value("[...document.querySelectorAll('.turn.assistant button')].find(one => one.textContent === 'Again').click()");
    browser.wait(DONE);
    assert_eq!(browser.value("talk().turns[1].content"), first, "the seed decides");
    browser.value(
        "[...document.querySelectorAll('.turn.user button')].find(one => one.textContent === 'Edit').click()",
    );
    browser.type_text(" is round");
    browser.press("Enter", 13);
    browser.wait(DONE);
    assert_eq!(browser.value("talk().turns[0].content"), "the moon is round");

    // Stopped by a key; what was said stays.
    browser.value("settings = { max_tokens: 900, temperature: 2 }; document.getElementById('model').value = 'other/nano'");
    // The server ends no answer by itself.
    browser.value(
        "const plain = fetch; window.fetch = (path, options) => plain(path, options?.body \
         ? { ...options, body: JSON.stringify({ ...JSON.parse(options.body), ignore_eos: true }) } : options); true",
    );
    ask(&mut browser, "go on");
    browser.wait("running?.turn.tokens > 3");
    browser.press("Escape", 27);
    browser.wait("!running");
    assert_eq!(browser.value("talk().turns[3].finish"), "stopped");
    assert!(server.is_idle_within(std::time::Duration::from_secs(5)));

    browser.value("settings = { max_tokens: 24 }; begin()");
    ask(&mut browser, "second");
    browser.wait(DONE);
    browser.open(&address);
    assert_eq!(browser.value("talks.map(one => one.turns.length)"), json!([2, 4]));
    browser.value("document.querySelectorAll('.talks .open')[1].click()");
    browser.value("document.querySelectorAll('.talks .icon')[0].click()");
    assert_eq!(browser.value("talks.map(one => one.turns[0].content)"), json!(["the moon is round"]));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn what_a_model_writes_is_shown_and_never_run() {
    let Some(mut browser) = Browser::start() else { return println!("{SKIPPED}") };
    let server = Running::start();
    browser.look(1100, 900, "light");
    browser.open(&format!("http://{}/", server.address));
    let turns = json!([
        { "role": "user", "content": "How do I go over files?\nIn bash, please. <i>x</i>" },
        { "role": "assistant", "content": ANSWER, "tokens": 212, "seconds": 4.1, "first": 0.21, "finish": "stop" },
    ]);
    browser.value(&format!("talk().turns = {turns}; save(); show()"));
    let count = |browser: &mut Browser, selector: &str| {
        browser.value(&format!("document.querySelectorAll('.turn {selector}').length")).as_u64().unwrap()
    };
    for (selector, expected) in [
        ("h2", 1),
        ("strong", 1),
        ("em", 1),
        ("a", 1),
        (".code pre", 1),
        ("ol > li", 2),
        ("ul > li", 2),
        ("blockquote", 1),
        ("td", 4),
        ("img", 0),
        ("script", 0),
        ("i", 0),
        ("b", 0),
    ] {
        assert_eq!(count(&mut browser, selector), expected, "{selector}");
    }
    let text = browser.value("document.querySelector('.turn.assistant').innerText");
    assert!(text.as_str().unwrap().contains("2 * 3 * 4 and snake_case_name stay"), "{text}");
    assert!(text.as_str().unwrap().contains("<img src=x onerror="), "{text}");
    assert_ne!(browser.value("document.title"), "broken");
    browser
        .value("navigator.clipboard.writeText = text => { window.taken = text; return Promise.resolve(); }");
    browser.value("document.querySelector('.code button').click()");
    assert!(browser.value("taken").as_str().unwrap().starts_with("#!/usr/bin/env bash\nfor file"));
    browser.picture("light");
    // Nothing of a text is lost, whatever it is.
    let odd = [
        "**",
        "*a",
        "```\nx",
        "| a |",
        "- \n- ",
        "> > > > > > > >x",
        "1. a\n\n   b\n2. c",
        "[a](b",
        "`",
        "_a_b_",
        "#",
        "---",
        "\\*",
    ];
    for text in odd {
        browser.value(&format!("document.body.append(...blocks({}))", json!(text)));
    }
    let complaints: Vec<_> =
        browser.complaints.iter().filter(|one| !one.to_string().contains("clipboard")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn it_fits_a_phone_and_the_dark() {
    let Some(mut browser) = Browser::start() else { return println!("{SKIPPED}") };
    let server = Running::start();
    browser.look(1100, 900, "dark");
    browser.open(&format!("http://{}/", server.address));
    let turns = json!([
        { "role": "user", "content": "How do I go over files?" },
        { "role": "assistant", "content": ANSWER, "tokens": 212, "seconds": 4.1, "first": 0.21, "finish": "stop" },
    ]);
    browser.value(&format!("talk().turns = {turns}; save(); show()"));
    let ground = "getComputedStyle(document.body).backgroundColor";
    let dark = browser.value(ground);
    browser.picture("dark");
    for (label, expected_dark) in [("light", false), ("dark", true), ("as the system has it", true)] {
        browser.value("document.getElementById('theme').click()");
        let title = browser.value("document.getElementById('theme').title");
        assert!(title.as_str().unwrap().ends_with(label), "{title}");
        assert_eq!(browser.value(ground) == dark, expected_dark, "{label}");
    }
    for scheme in ["light", "dark"] {
        browser.look(360, 740, scheme);
        assert_eq!(browser.value("document.documentElement.scrollWidth"), 360);
        let outside = "[...document.querySelectorAll('main *')].filter(one => !one.closest('pre, .scrolls, .unseen') && one.getBoundingClientRect().right > 360.5).map(one => one.outerHTML.slice(0, 80))";
        assert_eq!(browser.value(outside), json!([]));
        browser.picture(&format!("phone-{scheme}"));
    }
    // All by keyboard: the list opens, closes, and gives the focus back.
    browser.value("document.getElementById('drawer').focus()");
    browser.press("Enter", 13);
    browser.wait("document.body.classList.contains('drawn')");
    browser.wait("document.getElementById('side').getBoundingClientRect().left >= -0.5");
    browser.picture("phone-drawer");
    browser.press("Escape", 27);
    assert_eq!(browser.value("document.activeElement.id"), "drawer");
    browser.value("document.getElementById('settings-open').click()");
    browser.picture("phone-settings");
    browser.value("document.getElementById('temperature').focus()");
    browser.type_text("0.5");
    browser.press("Enter", 13);
    browser.wait("!document.getElementById('settings').open && settings.temperature === 0.5");
    let unnamed = "[...document.querySelectorAll('button, select, input, textarea')].filter(one => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).map(one => one.outerHTML.slice(0, 80))";
    assert_eq!(browser.value(unnamed), json!([]));
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}
