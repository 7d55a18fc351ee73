//! Unions of cubes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::cube::{Atom, Cube, Pieces, Point};
use super::set::Set;
use crate::ids::AppId;

/// How many cubes an answer may have beyond those that it is made from. More than people read, and few
/// enough to be compared with one another.
const MOST_CUBES: usize = 2_000;

/// How many overlapping pieces may be left of one cube. Each thing that is cut out can double their number,
/// where it adds one to pieces that are apart.
const MOST_OVERLAPPING: usize = 64;

/// How many pieces are looked at for one that is left.
const MOST_STEPS: usize = 10_000;

/// The answer would be too long to be worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooComplex;

impl fmt::Display for TooComplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the rules of a route overlap in too many ways to say exactly whom they let in; \
             split the route, or use fewer rules",
        )
    }
}

impl std::error::Error for TooComplex {}

/// Callers: whoever is in one of the cubes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region(Vec<Cube>);

impl From<Vec<Cube>> for Region {
    fn from(cubes: Vec<Cube>) -> Self {
        Self(cubes.into_iter().filter_map(Cube::normal).collect())
    }
}

impl Region {
    /// Nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether it is nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cubes.
    pub fn cubes(&self) -> &[Cube] {
        &self.0
    }

    /// Whether a caller is in it.
    pub fn contains(&self, point: &Point) -> bool {
        self.0.iter().any(|cube| cube.contains(point))
    }

    /// Somebody who is in it: at `now` (seconds since the Unix epoch) where that will do.
    pub fn point(&self, now: u64) -> Option<Point> {
        self.0.iter().find_map(|cube| cube.point(now))
    }

    /// Who is in either.
    pub fn union(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Who is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let index = Index::of(&other.0);
        let both = |cube: &Cube| {
            let meets = index
                .meeting(cube)
                .filter_map(|theirs| cube.intersection(theirs));
            meets.collect::<Vec<_>>()
        };
        Self(self.0.iter().flat_map(both).collect())
    }

    /// Who is in this and not in the other.
    ///
    /// # Errors
    /// When that would be too many cubes.
    pub fn minus(&self, other: &Self) -> Result<Self, TooComplex> {
        let index = Index::of(&other.0);
        let mut left = Vec::new();
        for cube in &self.0 {
            let most = (self.0.len() + MOST_CUBES).saturating_sub(left.len());
            let overlapping = index.minus(cube, Pieces::Largest, MOST_OVERLAPPING.min(most));
            let pieces = overlapping.or_else(|_| index.minus(cube, Pieces::Apart, most))?;
            left.extend(pieces);
        }
        Ok(Self(left))
    }

    /// Whether somebody in a cube is not in it. A yes may be wrong where that is too much to work out.
    pub fn leaves_some_of(&self, cube: &Cube) -> bool {
        let index = Index::of(&self.0);
        let others: Vec<&Cube> = index.meeting(cube).collect();
        escapes(cube, &others, &mut { MOST_STEPS })
    }

    /// Whether all of the other is in it.
    ///
    /// # Errors
    /// When that is too much to work out.
    pub fn covers(&self, other: &Self) -> Result<bool, TooComplex> {
        Ok(other.minus(self)?.is_empty())
    }

    /// The same callers in fewer cubes.
    pub fn simplified(self) -> Self {
        let mut cubes = without_covered(self.0);
        loop {
            let before = cubes.len();
            cubes = merged(cubes);
            cubes = without_covered(cubes);
            if cubes.len() >= before {
                break;
            }
        }
        cubes.sort();
        Self(cubes)
    }
}

/// Whether somebody in a cube is in none of the others: the first way out that is found ends the search.
fn escapes(cube: &Cube, others: &[&Cube], steps: &mut usize) -> bool {
    let Some((first, more)) = others.split_first() else {
        return true;
    };
    let Some(left) = steps.checked_sub(1) else {
        return true;
    };
    *steps = left;
    if others.iter().any(|other| other.covers(cube)) {
        return false;
    }
    let mut pieces = cube.minus(first, Pieces::Largest).into_iter();
    pieces.any(|piece| escapes(&piece, more, steps))
}

/// Cubes by the apps that they name, so that those that share no app need not be compared.
struct Index<'c> {
    cubes: &'c [Cube],
    by_app: HashMap<AppId, Vec<usize>>,
    any_app: Vec<usize>,
}

impl<'c> Index<'c> {
    fn of(cubes: &'c [Cube]) -> Self {
        let mut index = Self {
            cubes,
            by_app: HashMap::new(),
            any_app: Vec::new(),
        };
        for (at, cube) in cubes.iter().enumerate() {
            match &cube.apps {
                Set::Only(apps) => {
                    for app in apps {
                        index.by_app.entry(*app).or_default().push(at);
                    }
                }
                Set::AllBut(_) => index.any_app.push(at),
            }
        }
        index
    }

    /// What is left of a cube without any of these.
    fn minus(&self, cube: &Cube, pieces: Pieces, most: usize) -> Result<Vec<Cube>, TooComplex> {
        let meeting: Vec<&Cube> = self.meeting(cube).collect();
        let covered = |piece: &Cube| meeting.iter().any(|theirs| theirs.covers(piece));
        if covered(cube) {
            return Ok(Vec::new());
        }
        let mut left = vec![cube.clone()];
        for theirs in &meeting {
            if left.iter().all(|piece| piece.is_apart_from(theirs)) {
                continue;
            }
            let cut = left.iter().flat_map(|piece| piece.minus(theirs, pieces));
            left = cut.filter(|piece| !covered(piece)).collect();
            if pieces == Pieces::Largest {
                left = without_covered(left);
            }
            if left.len() > most {
                return Err(TooComplex);
            }
        }
        Ok(left)
    }

    /// The cubes that may share somebody with this one; all that do are among them.
    fn meeting<'i>(&'i self, cube: &Cube) -> impl Iterator<Item = &'c Cube> + use<'i, 'c> {
        let places: Vec<usize> = match &cube.apps {
            Set::AllBut(_) => (0..self.cubes.len()).collect(),
            Set::Only(apps) => {
                let named = apps.iter().filter_map(|app| self.by_app.get(app)).flatten();
                let mut places: Vec<usize> = named.chain(&self.any_app).copied().collect();
                places.sort_unstable();
                places.dedup();
                places
            }
        };
        places.into_iter().filter_map(|at| self.cubes.get(at))
    }
}

/// Leaves out every cube that another covers; of equal ones, all but the first.
fn without_covered(mut cubes: Vec<Cube>) -> Vec<Cube> {
    cubes.sort();
    cubes.dedup();
    let index = Index::of(&cubes);
    let kept = cubes.iter().filter(|cube| {
        let mut meeting = index.meeting(cube);
        !meeting.any(|other| other.covers(cube) && other != *cube)
    });
    kept.cloned().collect()
}

/// Makes one of cubes that differ in one property alone, property by property.
fn merged(mut cubes: Vec<Cube>) -> Vec<Cube> {
    macro_rules! merge {
        ($($field:ident: $any:expr, $union:expr;)*) => {$(
            // Where all have the same, none differ in that alone.
            let mut values = cubes.iter().map(|cube| &cube.$field);
            let first = values.next();
            if !values.all(|value| Some(value) == first) {
                let mut groups: BTreeMap<Cube, _> = BTreeMap::new();
                for mut cube in cubes {
                    let own = std::mem::replace(&mut cube.$field, $any);
                    match groups.get_mut(&cube) {
                        None => drop(groups.insert(cube, own)),
                        Some(held) => *held = $union(held, &own),
                    }
                }
                cubes = groups
                    .into_iter()
                    .map(|(mut cube, own)| { cube.$field = own; cube })
                    .collect();
            }
        )*};
    }
    merge! {
        apps: Set::any(), |a: &Set<_>, b| a.union(b);
        tenants: Set::any(), |a: &Set<_>, b| a.union(b);
        principals: Set::any(), |a: &Set<_>, b| a.union(b);
        audiences: Set::any(), |a: &Set<_>, b| a.union(b);
        kinds: super::masks::KINDS, |a: &super::Mask, b: &super::Mask| a.union(*b);
        strengths: super::masks::STRENGTHS, |a: &super::Mask, b: &super::Mask| a.union(*b);
        callers: super::masks::CALLERS, |a: &super::Mask, b: &super::Mask| a.union(*b);
        addresses: super::Ranges::any(), |a: &super::Ranges<u128>, b| a.union(b);
        times: super::Ranges::any(), |a: &super::Ranges<u64>, b| a.union(b);
    }
    let mut masks: BTreeMap<&Atom, BTreeSet<super::Mask>> = BTreeMap::new();
    for (atom, mask) in cubes.iter().flat_map(|cube| &cube.atoms) {
        masks.entry(atom).or_default().insert(*mask);
    }
    // Likewise: cubes that ask the same of it do not differ in it.
    let differing = masks.into_iter().filter(|(_, masks)| masks.len() > 1);
    let differing: Vec<Atom> = differing.map(|(atom, _)| atom.clone()).collect();
    for atom in differing {
        cubes = merged_by(&atom, cubes);
    }
    // A union may be wider than the facts of the domain allow.
    cubes.into_iter().filter_map(Cube::normal).collect()
}

/// Makes one of cubes that differ in one atom alone, if it may have any value then.
fn merged_by(atom: &Atom, cubes: Vec<Cube>) -> Vec<Cube> {
    let mut groups: BTreeMap<Cube, super::Mask> = BTreeMap::new();
    let mut others = Vec::new();
    for mut cube in cubes {
        match cube.atoms.remove(atom) {
            None => others.push(cube),
            Some(own) => {
                let held = groups.entry(cube).or_insert(own);
                *held = held.union(own);
            }
        }
    }
    others.extend(groups.into_iter().map(|(mut cube, mask)| {
        cube.atoms.insert(atom.clone(), mask);
        cube
    }));
    others
}
