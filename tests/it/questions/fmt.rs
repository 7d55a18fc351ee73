//! The one form of files.

use super::{Place, READ};

#[test]
fn fmt_writes_the_one_form_and_check_only_tells() {
    let place = Place::new(READ);
    place.write(
        "policies/a.test.yaml",
        "- {request: {path: /a, method: GET}, name: 'one', expect: deny} # x\n",
    );
    let (said, code) = place.ask("fmt --check policies");
    assert_eq!(code, Some(1));
    assert!(
        said.contains(
            "+- { name: \"one\", request: { path: /a, method: GET }, expect: deny }  #***"
        ),
        "{said}"
    );
    // What may be a secret shows in no build log.
    place.write(
        "policies/b.yaml",
        "backends: { b: { http: https://b.example,   credential: {functionKey: hunter2} } }\n",
    );
    let (said, code) = place.ask("fmt --check policies/b.yaml");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("functionKey: ***") && !said.contains("hunter2"),
        "{said}"
    );
    place.write("policies/b.yaml", "backends: {} # hunter2\n");
    let (said, code) = place.ask("fmt --check policies/b.yaml");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("+backends: {}  #***") && !said.contains("hunter2"),
        "{said}"
    );
    let (said, code) = place.ask("fmt policies");
    assert_eq!(code, Some(0));
    assert!(said.contains("policies/a.test.yaml\n"), "{said}");
    assert_eq!(place.ask("fmt --check policies"), (String::new(), Some(0)));
    place.write("policies/broken.yaml", "a: [b\n");
    let (said, code) = place.ask("fmt policies");
    assert_eq!(code, Some(1));
    assert!(said.contains("policies/broken.yaml:1:"), "{said}");
    assert_eq!(place.ask("fmt nowhere").1, Some(2));
}
