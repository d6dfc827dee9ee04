//! Temporary.
fn main() {
    use larder_model::{check::*, cluster::*, protections::*, scenes, standalone::Standalone};
    let args: Vec<String> = std::env::args().skip(1).collect();
    let removed: Removed = args.iter().skip(1).filter_map(|name| Removable::named(name)).collect();
    for (name, scene) in scenes::standalone() {
        if args.first().is_some_and(|only| only != "all" && only != name) { continue }
        let report = check(Standalone::new(scene.clone(), removed, true), 2);
        println!("{name}: {} states, depth {}, {:?} {:?}", report.states, report.depth, report.time, report.reached);
        if report.violation.is_some() {
            println!("{}", shortest(&Standalone::new(scene, removed, false)).unwrap());
        }
    }
    for (name, scene) in scenes::cluster() {
        if args.first().is_some_and(|only| only != "all" && only != "cluster" && only != name) { continue }
        let report = check(Cluster::new(scene.clone(), removed, true), 2);
        println!("{name}: {} states, depth {}, {:?} {:?}", report.states, report.depth, report.time, report.reached);
        if report.violation.is_some() {
            println!("{}", shortest(&Cluster::new(scene, removed, false)).unwrap());
        }
    }
}
