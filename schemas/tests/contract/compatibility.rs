//! Schema evolution: `FULL_TRANSITIVE`, checked here before any registry sees a schema.

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use schemas::avro::RELEASED;
use serde_json::Value;

#[test]
fn every_version_reads_every_other_of_its_subject() {
    for one in RELEASED {
        for other in RELEASED.iter().filter(|other| other.subject == one.subject) {
            let (left, right) =
                (Schema::parse_str(one.text).unwrap(), Schema::parse_str(other.text).unwrap());
            SchemaCompatibility::mutual_read(&left, &right).unwrap_or_else(|error| {
                panic!("{} {} {}: {error}", one.subject, one.version, other.version)
            });
        }
    }
}

#[test]
fn every_avsc_file_is_released_and_versions_are_contiguous() {
    let folder = std::path::Path::new("avro");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(
        files,
        RELEASED.len(),
        "a schema file that is not in RELEASED, or the other way round"
    );
    for schema in RELEASED {
        let older = RELEASED
            .iter()
            .filter(|other| other.subject == schema.subject && other.version < schema.version);
        assert_eq!(u32::try_from(older.count()).unwrap(), schema.version - 1);
    }
}

#[test]
fn a_field_without_a_default_would_be_refused() {
    let mut schema: Value = serde_json::from_str(RELEASED[0].text).unwrap();
    let field = serde_json::json!({"name": "new_field", "type": "string", "doc": "no default"});
    schema["fields"].as_array_mut().unwrap().push(field);
    let (old, new) =
        (Schema::parse_str(RELEASED[0].text).unwrap(), Schema::parse(&schema).unwrap());
    assert!(SchemaCompatibility::mutual_read(&old, &new).is_err());
}

fn undocumented(node: &Value, path: &str, found: &mut Vec<String>) {
    match node {
        Value::Object(object) => {
            let is_named =
                matches!(object.get("type").and_then(Value::as_str), Some("record" | "fixed"));
            let is_field = object.contains_key("name") && object.contains_key("type");
            let name = object.get("name").and_then(Value::as_str).unwrap_or("");
            let documented =
                object.get("doc").and_then(Value::as_str).is_some_and(|doc| doc.len() > 3);
            if (is_named || is_field) && !documented {
                found.push(format!("{path}/{name}"));
            }
            for child in object.values() {
                undocumented(child, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| undocumented(item, path, found)),
        _ => {}
    }
}

#[test]
fn every_field_and_record_has_a_doc() {
    let mut found = Vec::new();
    for schema in RELEASED {
        undocumented(&serde_json::from_str(schema.text).unwrap(), schema.subject, &mut found);
    }
    assert!(found.is_empty(), "no doc: {found:?}");
}

#[test]
fn the_chain_is_the_last_field_of_every_decision() {
    for schema in RELEASED.iter().filter(|schema| schema.subject.contains("decisions")) {
        let parsed: Value = serde_json::from_str(schema.text).unwrap();
        let last = parsed["fields"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["name"], "chain", "{}", schema.subject);
    }
}
