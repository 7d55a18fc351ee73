//! The algebra against brute force: every point of a small domain, asked one by one.

use std::collections::BTreeMap;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::{AppId, TenantId};
use crate::token::{AuthStrength, TokenKind};

fn tenant(number: u128) -> TenantId {
    TenantId::new(Uuid::from_u128(number))
}

fn app(number: u128) -> AppId {
    AppId::new(Uuid::from_u128(number))
}

fn role() -> Atom {
    Atom::Role("R".into())
}

fn scope() -> Atom {
    Atom::Scope("S".into())
}

fn when() -> Atom {
    Atom::When("c".into())
}

/// Every caller that the cubes below can tell apart, and no other.
fn points() -> Vec<Point> {
    let mut points = Vec::new();
    let truths = [masks::TRUE, masks::FALSE, masks::FAILED];
    for address in [0, 10, 20] {
        for time in [0, 5] {
            for truth in truths {
                let conditions = BTreeMap::from([("c".into(), truth)]);
                let point = Point {
                    token: None,
                    address,
                    time,
                    conditions,
                };
                points.extend(tokens().into_iter().map(|token| Point {
                    token: Some(token),
                    ..point.clone()
                }));
                points.push(point);
            }
        }
    }
    points
}

fn tokens() -> Vec<TokenPoint> {
    let mut tokens = Vec::new();
    for tenant in [Some(tenant(1)), None] {
        for app in [Some(app(1)), Some(app(2)), None] {
            for kind in TokenKind::ALL {
                for strength in [AuthStrength::Secret, AuthStrength::Certificate] {
                    for (has_role, has_scope) in [(false, false), (true, false), (false, true)] {
                        // An app's own token has no scopes.
                        if has_scope && *kind == TokenKind::AppOnly {
                            continue;
                        }
                        let has = [has_role.then(role), has_scope.then(scope)];
                        tokens.push(TokenPoint {
                            tenant,
                            app,
                            principal: None,
                            kind: *kind,
                            strength,
                            audience: None,
                            has: has.into_iter().flatten().collect(),
                        });
                    }
                }
            }
        }
    }
    tokens
}

fn set<T: Ord + Clone + std::fmt::Debug + 'static>(
    values: Vec<T>,
) -> impl Strategy<Value = Set<T>> {
    let most = values.len();
    let some = btree_set(proptest::sample::select(values), 0..=most);
    prop_oneof![
        3 => Just(Set::any()),
        3 => some.clone().prop_map(Set::Only),
        1 => some.prop_map(Set::AllBut),
    ]
}

fn mask(of: Mask) -> impl Strategy<Value = Mask> {
    let each: Vec<Mask> = of.each().collect();
    let most = each.len();
    prop_oneof![
        2 => Just(of),
        1 => vec(proptest::sample::select(each), 1..=most)
            .prop_map(|some| some.into_iter().reduce(Mask::union).unwrap()),
    ]
}

fn cube() -> impl Strategy<Value = Cube> {
    let spans = |at: Vec<(u128, u128)>| {
        prop_oneof![
            2 => Just(Ranges::any()),
            1 => vec(proptest::sample::select(at), 1..3).prop_map(Ranges::of),
        ]
    };
    let times = prop_oneof![
        2 => Just(Ranges::any()),
        1 => Just(Ranges::of([(0, 4)])),
        1 => Just(Ranges::of([(5, u64::MAX)])),
    ];
    let atoms = vec(
        (
            proptest::sample::select(vec![role(), scope(), when()]),
            mask(when().domain()),
        ),
        0..3,
    );
    (
        mask(masks::CALLERS),
        set(vec![tenant(1)]),
        set(vec![app(1), app(2)]),
        mask(masks::KINDS),
        mask(masks::STRENGTHS),
        spans(vec![(0, 9), (10, 19), (10, u128::MAX), (20, 20)]),
        times,
        atoms,
    )
        .prop_map(
            |(callers, tenants, apps, kinds, strengths, addresses, times, atoms)| Cube {
                callers,
                tenants,
                apps,
                kinds,
                strengths,
                addresses,
                times,
                atoms: atoms.into_iter().collect(),
                ..Cube::any()
            },
        )
}

fn normal() -> impl Strategy<Value = Cube> {
    cube().prop_filter_map("nobody is in it", Cube::normal)
}

fn region() -> impl Strategy<Value = Region> {
    vec(cube(), 0..4).prop_map(Region::from)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_operation_says_of_every_caller_what_it_must(a in region(), b in region()) {
        let minus = a.minus(&b).unwrap();
        let both = a.intersection(&b);
        let either = a.clone().union(b.clone());
        let simpler = either.clone().simplified();
        let (mut nobody_left, mut any_both) = (true, false);
        for point in points() {
            let (in_a, in_b) = (a.contains(&point), b.contains(&point));
            prop_assert_eq!(minus.contains(&point), in_a && !in_b, "{:?} in {:?}", point, minus);
            prop_assert_eq!(both.contains(&point), in_a && in_b, "{:?}", point);
            prop_assert_eq!(either.contains(&point), in_a || in_b, "{:?}", point);
            prop_assert_eq!(simpler.contains(&point), in_a || in_b, "{:?} in {:?}", point, simpler);
            nobody_left &= !in_a || in_b;
            any_both |= in_a && in_b;
        }
        // The public strength and unnamed values are not among the points, so these hold one way.
        prop_assert!(!minus.is_empty() || nobody_left);
        prop_assert!(!both.is_empty() || !any_both);
        prop_assert!(simpler.cubes().len() <= either.cubes().len());
        prop_assert_eq!(b.covers(&a).unwrap(), minus.is_empty());
    }

    #[test]
    fn a_cube_can_be_cut_into_pieces_that_overlap_and_into_ones_that_do_not(a in normal(), b in normal()) {
        for point in points() {
            let left = a.contains(&point) && !b.contains(&point);
            let pieces = |how| a.minus(&b, how).iter().filter(|piece| piece.contains(&point)).count();
            prop_assert_eq!(pieces(Pieces::Largest) > 0, left, "{:?}", point);
            prop_assert_eq!(pieces(Pieces::Apart), usize::from(left), "{:?}", point);
        }
    }

    #[test]
    fn what_is_not_empty_has_somebody_in_it(a in region(), b in region()) {
        for region in [a.minus(&b).unwrap(), a.intersection(&b), a] {
            match region.point(0) {
                Some(point) => prop_assert!(region.contains(&point), "{:?} in {:?}", point, region),
                None => prop_assert!(region.is_empty(), "{:?}", region),
            }
        }
    }

    #[test]
    fn nothing_is_left_of_what_is_taken_from_itself(a in region()) {
        prop_assert!(a.minus(&a).unwrap().is_empty());
        prop_assert!(a.minus(&a.clone().simplified()).unwrap().is_empty());
        prop_assert!(a.clone().simplified().minus(&a).unwrap().is_empty());
    }
}

#[test]
fn an_apps_own_token_has_no_scopes() {
    let scoped = Cube {
        atoms: BTreeMap::from([(scope(), masks::TRUE)]),
        kinds: masks::APP_ONLY,
        ..Cube::any()
    };
    assert_eq!(scoped.normal(), None);
}

#[test]
fn cubes_that_differ_in_one_property_become_one() {
    let of = |number| Cube {
        apps: Set::only([app(number)]),
        ..Cube::any()
    };
    let region = Region::from(vec![of(1), of(2), of(3)]).simplified();
    assert_eq!(
        region.cubes(),
        [Cube {
            callers: masks::AUTHENTICATED,
            apps: Set::only([app(1), app(2), app(3)]),
            ..Cube::any()
        }]
    );
}

#[test]
fn each_of_many_exceptions_adds_one_piece() {
    let exception = |number| Cube {
        apps: Set::only([app(number)]),
        addresses: Ranges::of([(number, number)]),
        ..Cube::any()
    };
    let everybody = Region::from(vec![Cube::any()]);
    let exceptions = Region::from((1..=200).map(exception).collect::<Vec<_>>());
    let left = everybody.minus(&exceptions).unwrap();
    // Nobody's token, any other app, and each of these from elsewhere.
    assert_eq!(left.cubes().len(), 202);
}

#[test]
fn what_is_too_much_to_say_is_told_and_what_is_covered_at_once_is_not_worked_out() {
    let both = |number| Cube {
        atoms: BTreeMap::from([
            (Atom::Role(format!("R{number}").into()), masks::TRUE),
            (Atom::Role(format!("Q{number}").into()), masks::TRUE),
        ]),
        ..Cube::any()
    };
    let exceptions: Vec<Cube> = (1..=40).map(both).collect();
    let everybody = Region::from(vec![Cube::any()]);
    let exceptions = Region::from(exceptions);
    assert_eq!(everybody.minus(&exceptions), Err(TooComplex));
    assert_eq!(exceptions.minus(&exceptions), Ok(Region::none()));
}

#[test]
fn ranges_are_kept_apart_and_in_order() {
    let ranges = Ranges::of([(5_u64, 7), (1, 2), (3, 4), (9, 9)]);
    assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 7), (9, 9)]);
    let left = Ranges::any().minus(&ranges);
    assert_eq!(
        left.iter().collect::<Vec<_>>(),
        [(0, 0), (8, 8), (10, u64::MAX)]
    );
    assert!(left.union(&ranges).is_any());
}
