//! The dashboard as a picture: figures, curves, the last sample, the log.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, LineGauge, Paragraph, Wrap};

use super::board::Board;
use super::curve::{Curve, value_range};
use crate::quantity::{bytes, count, seconds};

/// Lower than this, a screen has figures alone.
const CURVES_FROM_ROWS: u16 = 12;
/// Lower than this, it has no sample and no log.
const TEXTS_FROM_ROWS: u16 = 20;
/// Narrower than this, it has one column.
const COLUMNS_FROM: u16 = 70;

/// What changes without an event.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Time since training began or continued.
    pub elapsed_seconds: f64,
    /// Resident memory of the process.
    pub memory_bytes: Option<u64>,
    /// The most it was.
    pub peak_memory_bytes: Option<u64>,
    /// The run ends after its present step.
    pub stopping: bool,
}

/// Draws the whole screen.
pub fn draw(frame: &mut Frame<'_>, board: &Board, moment: &Moment) {
    let screen = frame.area();
    let [head, progress, figures, rest] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Fill(1),
    ])
    .areas(screen);
    title(frame, head, board, moment);
    gauge(frame, progress, board, moment);
    frame.render_widget(Paragraph::new(figure_lines(board, moment)), figures);
    if screen.height < CURVES_FROM_ROWS {
        return;
    }
    let texts = if screen.height < TEXTS_FROM_ROWS { 0 } else { rest.height / 3 };
    let [curves, texts] = Layout::vertical([Constraint::Fill(1), Constraint::Length(texts)]).areas(rest);
    draw_curves(frame, curves, board);
    if !texts.is_empty() {
        draw_texts(frame, texts, board);
    }
}

fn title(frame: &mut Frame<'_>, area: Rect, board: &Board, moment: &Moment) {
    let keys = if moment.stopping { "stopping: q again leaves at once" } else { "q saves and stops" };
    let [left, right] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(keys.len() as u16)]).areas(area);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Line::styled(board.title.as_str(), bold), left);
    frame.render_widget(Line::styled(keys, faint()), right);
}

fn gauge(frame: &mut Frame<'_>, area: Rect, board: &Board, moment: &Moment) {
    let (step, elapsed) = (board.step(), seconds(moment.elapsed_seconds));
    let left = board.seconds_left().map_or(String::new(), |left| format!(", {} left", seconds(left)));
    let label = format!("step {step}/{}  {elapsed}{left}", board.max_steps);
    let ratio = (step as f64 / board.max_steps.max(1) as f64).clamp(0.0, 1.0);
    let style = Style::new().fg(Color::Cyan);
    frame.render_widget(LineGauge::default().ratio(ratio).label(label).filled_style(style), area);
}

fn figure_lines(board: &Board, moment: &Moment) -> Vec<Line<'static>> {
    let mut training = vec![figure("loss", board.report.map(|report| format!("{:.4}", report.loss)))];
    training.extend([
        figure("grad norm", board.report.map(|report| format!("{:.2}", report.grad_norm))),
        figure("lr", board.report.map(|report| format!("{:.2e}", report.learning_rate))),
    ]);
    let validation = [
        figure("validation", board.evaluation.map(|evaluation| format!("{:.4}", evaluation.loss))),
        figure("perplexity", board.evaluation.map(|evaluation| format!("{:.2}", evaluation.perplexity()))),
        figure("best", board.best.map(|(step, loss)| format!("{loss:.4} at {step}"))),
    ];
    let share = board.peak_tokens_per_second.map(|peak| board.tokens_per_second / peak * 100.0);
    let resources = [
        figure("tokens/s", board.report.map(|_| count(board.tokens_per_second as u64))),
        figure("of peak", share.filter(|_| board.report.is_some()).map(|share| format!("{share:.0} %"))),
        figure("memory", moment.memory_bytes.map(bytes)),
        figure("peak memory", moment.peak_memory_bytes.map(bytes)),
    ];
    let line = |figures: &[[Span<'static>; 2]]| Line::from(figures.concat());
    vec![line(&training), line(&validation), line(&resources)]
}

fn figure(name: &str, value: Option<String>) -> [Span<'static>; 2] {
    let value = value.unwrap_or_else(|| "-".to_owned());
    [Span::styled(format!("{name} "), faint()), Span::raw(format!("{value}   "))]
}

fn draw_curves(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let four = |loss: f64| format!("{loss:.2}");
    let losses = [
        ("training", &board.train_loss, Color::Cyan, GraphType::Line),
        ("validation", &board.validation_loss, Color::Yellow, GraphType::Line),
    ];
    if area.width < COLUMNS_FROM {
        return chart(frame, area, "loss", &losses, board, four);
    }
    let [left, right] = Layout::horizontal([Constraint::Fill(2), Constraint::Fill(1)]).areas(area);
    let [upper, lower] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(right);
    chart(frame, left, "loss", &losses, board, four);
    let rates = [("", &board.learning_rate, Color::Green, GraphType::Line)];
    chart(frame, upper, "learning rate", &rates, board, |rate| format!("{rate:.1e}"));
    let speeds = [("", &board.speed, Color::Magenta, GraphType::Line)];
    chart(frame, lower, "tokens/s", &speeds, board, |speed| count(speed.max(0.0) as u64));
}

fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &'static str,
    curves: &[(&'static str, &Curve, Color, GraphType)],
    board: &Board,
    format: fn(f64) -> String,
) {
    let all: Vec<&Curve> = curves.iter().map(|(_, curve, ..)| *curve).collect();
    let [low, high] = value_range(&all);
    let steps = [board.first_step as f64, board.step().max(board.first_step + 1) as f64];
    let datasets = curves.iter().map(|(name, curve, color, kind)| {
        let style = Style::new().fg(*color);
        let dataset = Dataset::default().marker(Marker::Braille).graph_type(*kind).style(style);
        let dataset = if name.is_empty() { dataset } else { dataset.name(*name) };
        dataset.data(curve.points())
    });
    let step_labels = steps.map(|step| count(step as u64));
    let x_axis = Axis::default().bounds(steps).labels(step_labels).style(faint());
    let y_axis = Axis::default().bounds([low, high]).labels([format(low), format(high)]).style(faint());
    let chart = Chart::new(datasets.collect()).x_axis(x_axis).y_axis(y_axis);
    frame.render_widget(chart.block(panel(title.to_owned())), area);
}

fn draw_texts(frame: &mut Frame<'_>, area: Rect, board: &Board) {
    let [left, right] = if area.width < COLUMNS_FROM {
        Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
    } else {
        Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
    };
    let (name, text) = match &board.sample {
        Some(sample) => (format!("sample after step {}", sample.step), &sample.text),
        None => ("sample".to_owned(), &String::new()),
    };
    let prompt = board.sample.as_ref().map_or("", |sample| &sample.prompt);
    let text = shown(&format!("{prompt}{text}"));
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(panel(name)), left);
    let rows = usize::from(right.height.saturating_sub(2));
    let lines: Vec<Line<'_>> = board.last_lines(rows).map(|line| Line::from(shown(line))).collect();
    frame.render_widget(Paragraph::new(lines).block(panel("log".to_owned())), right);
}

fn panel(title: String) -> Block<'static> {
    Block::bordered().border_style(faint()).title(title)
}

fn faint() -> Style {
    Style::new().fg(Color::DarkGray)
}

/// A text of the model's, which may write what a terminal would obey.
fn shown(text: &str) -> String {
    let plain = |character: char| match character {
        '\n' => '\n',
        '\t' => ' ',
        character if character.is_control() => '\u{fffd}',
        character => character,
    };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use smelt_backend::Name;
    use smelt_train::{Evaluation, Sample, StepReport};

    use super::*;
    use crate::training::{RunFacts, TrainEvent};

    fn facts() -> RunFacts {
        RunFacts {
            run: "runs/nano".into(),
            family: "gpt2",
            parameters: 3_100_000,
            vocab_size: 300,
            requested_vocab_size: 300,
            train_tokens: 1000,
            val_tokens: 100,
            first_step: 0,
            max_steps: 100,
            estimated_bytes: 1 << 20,
            peak_tokens_per_second: Some(8000.0),
        }
    }

    /// Forty steps of a run.
    fn board() -> Board {
        let mut board = Board::new(&facts(), Some(Name::Cpu));
        for step in 1..=40 {
            let loss = 8.0 - step as f64 * 0.1;
            let report = StepReport {
                step,
                loss,
                grad_norm: 1.5,
                learning_rate: 1e-3,
                tokens: 1024,
                loss_scale: None,
            };
            board.tell(&TrainEvent::Stepped { report, tokens_per_second: 4000.0 });
        }
        let evaluation = Evaluation { loss: 4.5, tokens: 64.0 };
        board.tell(&TrainEvent::Evaluated { step: 40, evaluation });
        let (prompt, text) = ("#!".to_owned(), "/bin/sh\u{1b}[31m\necho".to_owned());
        board.tell(&TrainEvent::Sampled(&Sample { step: 40, prompt_index: 0, prompt, text }));
        board.log("saved run/checkpoints/step-00000040".to_owned());
        board
    }

    fn picture(board: &Board, width: u16, height: u16) -> String {
        let mut screen = Terminal::new(TestBackend::new(width, height)).unwrap();
        let moment = Moment {
            elapsed_seconds: 65.0,
            memory_bytes: Some(150 << 20),
            peak_memory_bytes: Some(160 << 20),
            stopping: false,
        };
        screen.draw(|frame| draw(frame, board, &moment)).unwrap();
        screen.backend().to_string()
    }

    #[test]
    fn a_wide_screen_shows_everything() {
        let picture = picture(&board(), 110, 30);
        for part in [
            "runs/nano: gpt2, 3.1M parameters on cpu",
            "q saves and stops",
            "step 40/100  1m05s, 15s left",
            "loss 4.0000   grad norm 1.50   lr 1.00e-3",
            "validation 4.5000   perplexity 90.02   best 4.5000 at 40",
            "tokens/s 4.0k   of peak 50 %   memory 150.0 MiB   peak memory 160.0 MiB",
            "learning rate",
            "sample after step 40",
            "#!/bin/sh\u{fffd}[31m",
            "saved run/checkpoints/step-00000040",
        ] {
            assert!(picture.contains(part), "{part} in\n{picture}");
        }
        assert!(
            picture.chars().any(|drawn| ('\u{2801}'..='\u{28ff}').contains(&drawn)),
            "no curve in\n{picture}"
        );
    }

    #[test]
    fn no_screen_is_too_small_and_a_run_may_have_just_begun() {
        for board in [board(), Board::new(&facts(), None)] {
            for (width, height) in [(1, 1), (20, 5), (40, 13), (60, 24), (200, 60)] {
                picture(&board, width, height);
            }
        }
        let small = picture(&board(), 60, 8);
        assert!(small.contains("loss 4.0000") && !small.contains("sample"), "{small}");
    }
}
