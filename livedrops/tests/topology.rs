//! `topology.md` says what the code does.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use followers::Followers;
use model::{Processor, Topology};
use reservations::Reservations;
use schemas::topics::{self, Retention};

/// Rows of the table under a heading, as trimmed cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let path = std::path::Path::new("../topology.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[test]
fn every_topic_has_its_row_and_every_row_its_topic() {
    let code: Vec<Vec<String>> = topics::ALL
        .iter()
        .map(|topic| {
            let time = if topic.log_append_time { "log" } else { "writer" };
            let retention = match topic.retention {
                Retention::Forever => "for ever".to_owned(),
                Retention::Days(days) => format!("{days} days"),
            };
            [
                topic.name,
                topic.key,
                topic.subject,
                time,
                &retention,
                topic.written_by,
                topic.read_by,
            ]
            .map(str::to_owned)
            .to_vec()
        })
        .collect();
    assert_eq!(table("Topics"), code);
}

#[test]
fn every_table_has_its_row_and_every_row_its_table() {
    let rows = |topology: Topology| {
        topology.tables.iter().map(move |(tag, name, key, holds)| {
            [topology.processor, &tag.to_string(), name, key, holds].map(str::to_owned).to_vec()
        })
    };
    let code: Vec<_> = rows(Reservations::TOPOLOGY).chain(rows(Followers::TOPOLOGY)).collect();
    assert_eq!(table("Stores"), code);
}

#[test]
fn every_guard_named_for_an_invariant_exists() {
    let root = std::path::PathBuf::from("..");
    let mut sources = String::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    for row in table("Invariants") {
        let guards = row[2]
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|guard| guard.contains('_') && !guard.contains(['/', '.', ' ']));
        for guard in guards {
            assert!(sources.contains(guard), "{}: there is no {guard}", row[0]);
        }
    }
}
