//! Which tokens count.

use smelt_data::{InstructionOptions, LossOn, PromptFormat};

use crate::fixture::{CHATML, learnt, options, read, read_with, text};

const TURNS: &str = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "list files"}, {"role": "assistant", "content": "ls"}, {"role": "user", "content": "and hidden?"}, {"role": "assistant", "content": "ls -a"}]}"#;

#[test]
fn every_turn_of_the_assistant_is_learnt_with_its_end() {
    let examples = read(TURNS, &options()).unwrap();
    assert_eq!(learnt(&examples.passage(0)), ["ls<|im_end|>", "ls -a<|im_end|>"]);
    let whole = text(&examples.passage(0).tokens);
    assert!(whole.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n"), "{whole}");
    assert_eq!(
        examples.counted_tokens(),
        examples.passage(0).counted.unwrap().iter().filter(|&&it| it).count()
    );
}

#[test]
fn without_a_mask_everything_is_learnt() {
    let examples = read(TURNS, &InstructionOptions { loss_on: LossOn::Everything, ..options() }).unwrap();
    assert!(examples.passage(0).counted.unwrap().into_iter().all(|counts| counts));
    assert_eq!(examples.counted_tokens(), examples.predictions(0));
}

#[test]
fn a_template_that_renders_a_beginning_differently_is_masked_rightly() {
    // Only the last answer keeps its thoughts, so no beginning of the text is the text of a beginning.
    let template = "{%- for m in messages -%}{{ '<|im_start|>' + m.role + ': ' }}\
        {%- if loop.last or m.role != 'assistant' %}{{ m.content }}\
        {%- else %}{{ m.content.split('</think>')[-1] }}{% endif %}{{ '<|im_end|>' }}{%- endfor -%}\
        {%- if add_generation_prompt %}{{ '<|im_start|>assistant: ' }}{% endif -%}";
    let lines = TURNS.replace("\"ls\"", "\"hm</think>ls\"").replace("\"ls -a\"", "\"so</think>ls -a\"");
    let examples = read_with(&lines, template, &options()).unwrap();
    assert_eq!(learnt(&examples.passage(0)), ["ls<|im_end|>", "so</think>ls -a<|im_end|>"]);
    assert!(!text(&examples.passage(0).tokens).contains("hm</think>"));
}

#[test]
fn tools_reach_the_template() {
    let template = format!("{{% for tool in tools %}}{{{{ tool.name }}}};{{% endfor %}}{CHATML}");
    let lines = TURNS.replacen("{\"messages\"", "{\"tools\": [{\"name\": \"find_files\"}], \"messages\"", 1);
    let examples = read_with(&lines, &template, &options()).unwrap();
    let whole = text(&examples.passage(0).tokens);
    assert!(whole.starts_with("find_files;<|im_start|>system"), "{whole}");
}

#[test]
fn a_completion_is_learnt_and_its_prompt_is_not() {
    let lines = r#"{"prompt": "list files", "completion": "ls"}"#;
    let examples = read(lines, &options()).unwrap();
    assert_eq!(learnt(&examples.passage(0)), ["ls<|im_end|>"]);
    let expected = "<|im_start|>user\nlist files<|im_end|>\n<|im_start|>assistant\nls<|im_end|>\n";
    assert_eq!(text(&examples.passage(0).tokens), expected);

    let plain = InstructionOptions { prompt_format: PromptFormat::Plain, ..options() };
    let examples = read(lines, &plain).unwrap();
    assert_eq!(text(&examples.passage(0).tokens), "list filesls<|endoftext|>");
    assert!(learnt(&examples.passage(0))[0].ends_with("ls<|endoftext|>"));
}

#[test]
fn answers_within_a_prompt_are_only_read() {
    let lines = r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "old"}, {"role": "user", "content": "b"}], "completion": [{"role": "assistant", "content": "new"}]}"#;
    assert_eq!(learnt(&read(lines, &options()).unwrap().passage(0)), ["new<|im_end|>"]);
}

#[test]
fn of_a_preference_both_answers_are_kept() {
    let lines = r#"{"prompt": "list files", "chosen": "ls", "rejected": "rm -rf files"}"#;
    let examples = read(lines, &options()).unwrap();
    assert_eq!(examples.len(), 1);
    assert_eq!(learnt(&examples.passage(0)), ["ls<|im_end|>"]);
    assert_eq!(learnt(&examples.rejected(0)), ["rm -rf files<|im_end|>"]);
    assert_eq!(examples.predictions(0), examples.rejected(0).tokens.len() - 1);
}
