//! Scenes.
use crate::source::{Change, Keys, Object};
use crate::cluster::ClusterScene;
use crate::node::Task;
use crate::standalone::{Faults, Scene};

/// All.
pub fn standalone() -> Vec<(&'static str, Scene)> {
    let scene = |a: &[Task], b: &[Task], faults| Scene { nodes: [a.to_vec(), b.to_vec()], faults, versioned: false };
    let none = Faults::default();
    let p = Change::Value(Object::P);
    use Task::*;
    let (kp, kq, kh) = (Keys::P, Keys::Q, Keys::H);
    vec![
        ("values", scene(&[Load(kh), Load(kp), Invalidate(p, kh)], &[Load(kh), Invalidate(p, kp)], Faults { unanswered: 1, ..none })),
        ("moves", scene(&[Load(kh), Load(kp), Invalidate(Change::Move, kh)], &[Load(kh), Load(kq), Invalidate(Change::Move, kp.and(kq))], none)),
        ("write-through", scene(&[Load(kh), Set(p, Object::P)], &[Load(kp), Update(Change::Move, Object::Q), Invalidate(p, kp)], none)),
        ("outage", scene(&[Load(kh), Invalidate(p, kh)], &[Load(kh), Set(p, Object::P)], Faults { unanswered: 1, cuts: 1, crashes: 1, ..none })),
        ("flush", scene(&[Load(kh), Invalidate(p, kh)], &[Load(kp)], Faults { flushes: 1, lost_clocks: 1, ..none })),
        ("restart", scene(&[Load(kh), Invalidate(p, kh)], &[Load(kp)], Faults { restarts: 1, ..none })),
        ("truncate", scene(&[Load(kh), Truncate], &[Load(kh), Invalidate(p, kh)], Faults { unanswered: 1, crashes: 1, ..none })),
        ("delete", scene(&[Load(kh), DeleteH], &[Load(kh), Invalidate(p, kp)], none)),
        ("eviction", scene(&[Load(kh), Invalidate(p, kp)], &[Load(kh), Invalidate(Change::Move, kp.and(kq))], Faults { lost_index_keys: 1, lost_objects: 1, ..none })),
        ("versions", Scene { versioned: true, ..scene(&[Load(kh), Set(p, Object::P)], &[Load(kh), InvalidateBelow(p, Object::P)], none) }),
        ("lagging", Scene { versioned: true, ..scene(&[LoadLagging(Object::P), InvalidateBelow(p, Object::P)], &[Load(kh), Truncate], none) }),
    ]
}

/// All.
pub fn cluster() -> Vec<(&'static str, ClusterScene)> {
    let p = Change::Value(Object::P);
    use Task::*;
    let (kp, kq, kh) = (Keys::P, Keys::Q, Keys::H);
    let scene = |tasks: &[Task], unanswered| ClusterScene { tasks: tasks.to_vec(), unanswered };
    let mv = Change::Move;
    vec![
        ("c-val", scene(&[Load(kh), Load(kh), Load(kp), Invalidate(p, kh), Invalidate(p, kp)], 0)),
        ("c-move", scene(&[Load(kh), Load(kp), Load(kq), Invalidate(mv, kh)], 1)),
        ("c-move2", scene(&[Load(kh), Load(kh), Load(kp), Invalidate(mv, kh), Invalidate(mv, kp.and(kq))], 0)),
        ("c-update", scene(&[Load(kh), Load(kp), Update(mv, Object::Q), Invalidate(p, kp)], 0)),
        ("c-set", scene(&[Load(kh), Load(kp), Set(mv, Object::Q), Invalidate(p, kh)], 0)),
        ("c-late", scene(&[Load(kh), Load(kq), Update(p, Object::P), Invalidate(mv, kh)], 2)),
        ("c-truncate", scene(&[Load(kh), Load(kh), Invalidate(p, kh), Truncate], 1)),
    ]
}
