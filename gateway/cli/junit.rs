//! Test results as CI systems read them: the XML that JUnit's Ant task began.

use std::fmt::Write as _;

use super::test::Ran;
use crate::files::{Diagnostics, Severity};

/// The tests as one XML document, a suite a file.
pub(super) fn xml(ran: &[Ran]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let failed = |ran: &[&Ran]| ran.iter().filter(|ran| !ran.failures.is_empty()).count();
    let all: Vec<&Ran> = ran.iter().collect();
    let _ = writeln!(
        xml,
        "<testsuites name=\"portcullis\" tests=\"{}\" failures=\"{}\">",
        all.len(),
        failed(&all)
    );
    let mut files: Vec<&str> = ran.iter().map(|ran| &*ran.file).collect();
    files.dedup();
    for file in files {
        let suite: Vec<&Ran> = ran.iter().filter(|ran| ran.file == file).collect();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">",
            escaped(file),
            suite.len(),
            failed(&suite)
        );
        for ran in suite {
            case(&mut xml, ran);
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// What is wrong with policies and tests as one XML document: an error each, as no test could be run.
pub(super) fn faults(diagnostics: &Diagnostics) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let errors = diagnostics.sorted();
    let errors = errors
        .into_iter()
        .filter(|fault| fault.severity() == Severity::Error);
    let _ = writeln!(
        xml,
        "<testsuites name=\"portcullis\" tests=\"1\" failures=\"0\" errors=\"1\">\n  \
         <testsuite name=\"files\" tests=\"1\" failures=\"0\" errors=\"1\">\n    \
         <testcase classname=\"files\" name=\"policies and tests can be read\">"
    );
    for fault in errors {
        let message = escaped(fault.message());
        let place = escaped(&fault.primary().span.to_string());
        let _ = writeln!(xml, "      <error message=\"{message}\">{place}</error>");
    }
    xml.push_str("    </testcase>\n  </testsuite>\n</testsuites>\n");
    xml
}

fn case(xml: &mut String, ran: &Ran) {
    let (file, name) = (escaped(&ran.file), escaped(&ran.name));
    let open = format!("    <testcase classname=\"{file}\" name=\"{name}\"");
    if ran.failures.is_empty() {
        let _ = writeln!(xml, "{open}/>");
        return;
    }
    let _ = writeln!(xml, "{open}>");
    for failure in &ran.failures {
        let (failure, place) = (escaped(failure), escaped(&ran.place));
        let _ = writeln!(
            xml,
            "      <failure message=\"{failure}\">{place}</failure>"
        );
    }
    xml.push_str("    </testcase>\n");
}

/// Text as XML 1.0 may hold it. Characters that it may not hold at all are replaced (section 2.2).
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\r' | '\t' => safe.push(' '),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                safe.push(char::REPLACEMENT_CHARACTER);
            }
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_a_file_and_nothing_that_is_not_xml() {
        let ran = |name: &str, failures: &[&str]| Ran {
            file: "a.test.yaml".to_owned(),
            name: name.to_owned(),
            place: "a.test.yaml:3:5".to_owned(),
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
        };
        let xml = xml(&[
            ran("one", &[]),
            ran("<two> & \"\u{1}\"", &["expected a > b"]),
        ]);
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites name=\"portcullis\" tests=\"2\" failures=\"1\">\n\
             \x20 <testsuite name=\"a.test.yaml\" tests=\"2\" failures=\"1\">\n\
             \x20   <testcase classname=\"a.test.yaml\" name=\"one\"/>\n\
             \x20   <testcase classname=\"a.test.yaml\" name=\"&lt;two&gt; &amp; &quot;\u{fffd}&quot;\">\n\
             \x20     <failure message=\"expected a &gt; b\">a.test.yaml:3:5</failure>\n\
             \x20   </testcase>\n\
             \x20 </testsuite>\n\
             </testsuites>\n"
        );
    }
}
