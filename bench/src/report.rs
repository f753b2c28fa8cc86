//! The table of bars, as text, JSON and a picture.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// Whether misses are red, or only say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Colours {
    Terminal,
    None,
}

const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

pub(crate) fn per_second(done: u32, took: Duration) -> f64 {
    f64::from(done) / took.as_secs_f64()
}

/// What several rounds gave.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len().checked_sub(1)? / 2;
        let (lower, upper) = (sorted[middle], sorted[sorted.len() / 2]);
        Some(f64::midpoint(lower, upper))
    }

    fn spread(&self) -> String {
        let (least, most) = self.0.iter().fold((f64::MAX, f64::MIN), |(least, most), value| {
            (least.min(*value), most.max(*value))
        });
        if self.0.len() < 2 { "once".into() } else { format!("{}-{}", short(least), short(most)) }
    }
}

/// What a number has to be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Bar {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bar) => format!("≥ {}", short(bar)),
            Self::AtMost(bar) => format!("≤ {}", short(bar)),
        }
    }
}

/// Another system in the same run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) samples: Samples,
    /// How many times it has to be passed; `None` where it only stands beside.
    pub(crate) times: Option<f64>,
}

/// One line of the table, as its JSON has it too.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "Judged")]
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) bar: Option<Bar>,
    pub(crate) ours: Samples,
    pub(crate) peer: Option<Peer>,
}

/// A line with what the table says of it.
#[derive(Serialize)]
struct Judged {
    what: String,
    unit: &'static str,
    bar: Option<Bar>,
    ours: Samples,
    median: Option<f64>,
    peer: Option<Peer>,
    peer_median: Option<f64>,
    ratio: Option<f64>,
    passes: Option<bool>,
}

impl From<Line> for Judged {
    fn from(line: Line) -> Self {
        let peer_median = line.peer.as_ref().and_then(|peer| peer.samples.median());
        let (median, ratio, passes) = (line.ours.median(), line.ratio(), line.passes());
        let Line { what, unit, bar, ours, peer } = line;
        Self { what, unit, bar, ours, median, peer, peer_median, ratio, passes }
    }
}

impl Line {
    pub(crate) fn new(what: &str, unit: &'static str, bar: Option<Bar>, ours: Samples) -> Self {
        Self { what: what.to_owned(), unit, bar, ours, peer: None }
    }

    pub(crate) fn beside(self, name: &str, samples: &Samples, times: Option<f64>) -> Self {
        let peer = Peer { name: name.to_owned(), samples: samples.clone(), times };
        Self { peer: Some(peer), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.ours.median()? / self.peer.as_ref()?.samples.median()?)
    }

    /// Every bar of the line; `None` for a line without one.
    fn passes(&self) -> Option<bool> {
        let value = self.bar.map(|bar| self.ours.median().is_some_and(|value| bar.is_met(value)));
        let times = self.peer.as_ref().and_then(|peer| peer.times);
        let ratio = times.map(|times| self.ratio().is_some_and(|ratio| ratio >= times));
        match (value, ratio) {
            (None, None) => None,
            (value, ratio) => Some(value.unwrap_or(true) && ratio.unwrap_or(true)),
        }
    }

    fn text(&self, colours: Colours) -> String {
        let ours = self.ours.median().map_or_else(|| "not measured".into(), short);
        let bar = self.bar.map_or_else(|| "-".into(), Bar::text);
        let peer = self.peer.as_ref().map_or_else(String::new, |peer| {
            let median = peer.samples.median().map_or_else(|| "-".into(), short);
            let wanted = peer.times.map_or_else(String::new, |times| format!(" (≥ {times} ×)"));
            let ratio = self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.1} × "));
            format!("{ratio}{} {median}{wanted}", peer.name)
        });
        let verdict = match self.passes() {
            None => "",
            Some(true) => "pass",
            Some(false) => "MISS",
        };
        let (what, unit, spread) = (&self.what, self.unit, self.ours.spread());
        let line =
            format!("{what:<46} {bar:>9} {ours:>9} {unit:<11} {spread:<13} {verdict:<5} {peer}");
        let is_red = colours == Colours::Terminal && self.passes() == Some(false);
        if is_red { format!("{RED}{line}{PLAIN}") } else { line.trim_end().to_owned() }
    }
}

/// `1.20 M`, `340 k`, `7.4`, `0.15`.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) commit: String,
    pub(crate) cores: usize,
    pub(crate) rounds: u32,
    pub(crate) intents: u32,
    pub(crate) versions: Vec<String>,
    pub(crate) lines: Vec<Line>,
}

impl Report {
    pub(crate) fn text(&self, colours: Colours) -> String {
        let (commit, cores, rounds) = (&self.commit, self.cores, self.rounds);
        let versions = self.versions.join(", ");
        let mut text = format!(
            "medians of {rounds} interleaved rounds after one that is not counted, where not `once` · {cores} cores · commit {commit} · \
             {versions}\n\n\
             {:<46} {:>9} {:>9} {:<11} {:<13} {:<5} beside it\n",
            "what", "bar", "ours", "", "least-most", ""
        );
        for line in &self.lines {
            text.push_str(&line.text(colours));
            text.push('\n');
        }
        text
    }

    /// Bars of every line that has a peer, ours above.
    pub(crate) fn picture(&self) -> String {
        let compared = self.lines.iter().filter_map(|line| {
            let peer = line.peer.as_ref()?;
            Some((line, line.ours.median()?, peer, peer.samples.median()?))
        });
        let compared: Vec<_> = compared.collect();
        let height = 60 + 70 * compared.len();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"16\" y=\"26\" font-size=\"16\">Decisions per second, medians of {} rounds, {} cores, commit \
             {}</text>\n",
            self.rounds, self.cores, self.commit
        );
        for (index, (line, ours, peer, theirs)) in compared.into_iter().enumerate() {
            let (top, longest) = (56 + 70 * index, ours.max(theirs));
            let length = |value: f64| 430.0 * value / longest;
            let bar = |y: usize, value: f64, colour: &str, name: &str| {
                let width = length(value);
                format!(
                    "<rect x=\"170\" y=\"{y}\" width=\"{width:.0}\" height=\"16\" fill=\"{colour}\"/>\n\
                     <text x=\"164\" y=\"{}\" text-anchor=\"end\">{name}</text>\n\
                     <text x=\"{:.0}\" y=\"{}\">{}</text>\n",
                    y + 13,
                    176.0 + width,
                    y + 13,
                    short(value)
                )
            };
            writeln!(svg, "<text x=\"16\" y=\"{top}\" fill=\"#555\">{}</text>", line.what)
                .expect("writing to a string cannot fail");
            svg.push_str(&bar(top + 8, ours, "#2563eb", "Live Drops"));
            svg.push_str(&bar(top + 28, theirs, "#9ca3af", &peer.name));
        }
        svg.push_str("</svg>\n");
        svg
    }
}
