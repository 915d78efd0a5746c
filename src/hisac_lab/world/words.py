"""Words of the world's topics: 16 topics of 16 subtopics each, 8 themes that every subtopic has, and fillers.

A subtopic is named by its first word; the three after it belong to it alone.
"""

from __future__ import annotations

_TOPICS = {
    "music": """
        jazz saxophone trumpet swing; opera soprano aria tenor; techno synthesizer rave beat; folk banjo
        ballad fiddle; reggae dub ska calypso; metal distortion riff headbanging; choir hymn chorus gospel;
        symphony orchestra conductor concerto; hiphop rap rhyme turntable; piano keyboard sonata pianist;
        guitar chord strumming ukulele; drums percussion cymbal snare; blues harmonica delta slide; punk mosh
        anarchy garage; flamenco tango salsa rumba; karaoke singalong microphone lyrics""",
    "cooking": """
        baking bread dough sourdough; pasta spaghetti lasagna noodles; barbecue grill smoke ribs; sushi rice
        sashimi wasabi; curry masala turmeric lentils; dessert cake chocolate pudding; cheese cheddar brie
        dairy; salad lettuce vinaigrette tomato; soup broth stew ladle; coffee espresso roast latte; wine
        vineyard cellar merlot; seafood shrimp lobster oyster; pickles vinegar brine cucumber; breakfast
        pancake waffle omelette; tea matcha kettle infusion; spices cinnamon pepper saffron""",
    "sports": """
        football quarterback touchdown helmet; tennis racket serve wimbledon; swimming pool freestyle goggles;
        cycling bicycle pedal peloton; boxing ring knockout gloves; golf putter fairway caddie; basketball
        backboard dunk rebound; baseball pitcher inning bat; skiing slope snow alpine; surfing wave surfboard
        reef; climbing rope boulder carabiner; yoga asana stretch meditation; running marathon sprint jogging;
        fencing sword foil duel; rowing oar canoe paddle; hockey puck goalie rink""",
    "travel": """
        beach sand tropical lagoon; camping tent campfire backpack; cruise ship harbor voyage; safari lion
        savanna jeep; museum exhibit gallery curator; railway train locomotive station; hiking trail summit
        wilderness; hotel suite lobby concierge; island archipelago ferry atoll; castle medieval fortress
        moat; desert dune oasis camel; pilgrimage shrine temple monastery; flight airline airport luggage;
        roadtrip highway motel caravan; diving scuba coral snorkel; volcano lava crater geyser""",
    "gardening": """
        roses petal thorn bouquet; vegetables carrot cabbage spinach; orchard apple pear pruning; cactus
        succulent spines arid; lawn mower grass turf; compost soil mulch fertilizer; herbs basil rosemary
        thyme; greenhouse glasshouse seedling humidity; bonsai pruner juniper wiring; orchids blossom exotic
        bloom; mushrooms fungus spores truffle; bees hive honey pollen; pond koi lily fountain; trees oak
        maple timber; bulbs tulip daffodil crocus; berries strawberry raspberry bramble""",
    "technology": """
        robots android servo automation; smartphone touchscreen battery charger; laptop notebook processor
        ultrabook; programming code compiler software; networking router ethernet bandwidth; photography
        camera lens shutter; drones quadcopter propeller aerial; gaming console controller joystick; security
        password encryption hacker; headphones earbuds acoustic audio; printing printer filament toner;
        satellites orbit antenna telemetry; database query storage server; electronics capacitor transistor
        solder; television screen remote broadcast; virtualreality headset immersive avatar""",
    "fashion": """
        shoes sneaker heel leather; dresses gown silk skirt; jewelry necklace diamond bracelet; watches
        wristwatch dial chronograph; hats fedora beret cap; denim jeans jacket overalls; perfume fragrance
        scent cologne; handbags purse clutch tote; knitwear sweater wool cardigan; suits tuxedo tie lapel;
        sunglasses eyewear frames shades; swimwear bikini trunks swimsuit; makeup lipstick mascara blush;
        haircare shampoo curls hairdresser; tattoo piercing stencil needle; sleepwear pajamas slippers
        nightgown""",
    "science": """
        astronomy telescope galaxy nebula; chemistry molecule reaction laboratory; genetics dna chromosome
        gene; physics quantum particle relativity; geology rock mineral fossil; ecology habitat biodiversity
        ecosystem; neuroscience brain neuron cortex; mathematics algebra theorem geometry; medicine hospital
        surgeon vaccine; meteorology storm hurricane barometer; dinosaurs jurassic tyrannosaurus skeleton;
        oceanography tide seabed plankton; psychology behavior therapy cognition; archaeology ruins excavation
        artifact; linguistics grammar syntax dialect; statistics probability regression variance""",
    "animals": """
        dogs puppy leash terrier; cats kitten whiskers feline; horses stallion saddle equestrian; birds parrot
        feather nest; fish aquarium goldfish fins; reptiles lizard snake gecko; insects beetle ant butterfly;
        bears grizzly polar panda; whales dolphin porpoise humpback; monkeys gorilla chimpanzee primate;
        rabbits bunny hamster hutch; wolves pack howl coyote; elephants tusk ivory trunk; frogs toad tadpole
        amphibian; sheep goat lamb shepherd; spiders web tarantula scorpion""",
    "literature": """
        poetry sonnet stanza verse; detective murder clue sleuth; romance love passion wedding; fantasy wizard
        dragon elf; biography memoir autobiography diary; comics superhero manga cartoon; horror ghost vampire
        haunted; essays criticism editorial opinion; fairytales princess fable folklore; cowboys ranch saloon
        outlaw; spy espionage secret agent; satire humor parody irony; plays drama theater stage; mythology
        zeus odyssey legend; philosophy ethics metaphysics stoic; scifi spaceship alien dystopia""",
    "home": """
        furniture sofa armchair bookshelf; lighting lamp chandelier bulb; kitchenware saucepan knife spatula;
        bedding pillow mattress blanket; bathroom shower towel sink; carpets rug persian weave; cleaning
        vacuum detergent mop; candles wax wick lantern; tools hammer screwdriver drill; decorating wallpaper
        roller primer; plumbing pipe faucet valve; heating radiator boiler thermostat; curtains blinds drapes
        window; clocks pendulum alarm cuckoo; laundry ironing washer dryer; ceramics pottery clay kiln""",
    "vehicles": """
        motorcycles biker sidecar throttle; trucks pickup lorry cargo; sailing yacht mast regatta; airplanes
        cockpit wing pilot; racing formula lap circuit; electric hybrid charging plugin; tractors farm plow
        harvest; buses coach transit commuter; scooters moped vespa skateboard; submarines periscope torpedo
        sonar; helicopters rotor hover chopper; trams streetcar trolley cable; bicycles tandem handlebar
        spokes; rockets booster launch capsule; tires wheel rim alignment; engines piston carburetor turbo""",
    "finance": """
        stocks shares dividend broker; mortgage loan housing landlord; taxes accountant deduction audit;
        insurance coverage policy claim; bitcoin blockchain cryptocurrency wallet; pensions retirement annuity
        savings; banking deposit teller account; bonds yield treasury maturity; startups entrepreneur venture
        founder; realestate property realtor apartment; budgeting thrift frugal expenses; currencies dollar
        euro forex; commodities gold oil copper; charity donation nonprofit philanthropy; auctions bidder
        gavel lot; careers resume salary interview""",
    "crafts": """
        knitting yarn crochet needles; woodworking carpentry lathe chisel; origami paper folding crane; sewing
        fabric thread quilt; painting watercolor canvas easel; sculpture marble bronze statue; calligraphy pen
        ink lettering; beading beads pendant string; scrapbook album stickers collage; glassblowing furnace
        vase stained; embroidery stitch hoop tapestry; leatherwork hide belt tooling; modelling miniature
        diorama glue; weaving loom warp basket; soapmaking lye lavender mold; drawing pencil sketch charcoal""",
    "history": """
        egypt pharaoh pyramid mummy; rome gladiator emperor legion; vikings norse longship raid; renaissance
        florence medici fresco; knights crusade armor jousting; revolution guillotine bastille republic;
        samurai shogun katana ninja; pirates treasure buccaneer galleon; warfare trench soldier battlefield;
        empire colony dynasty throne; aviation zeppelin biplane wright; calendars almanac sundial millennium;
        industry steam factory coal; maps cartography explorer compass; coins numismatic mint medal; genealogy
        ancestor pedigree lineage""",
    "games": """
        chess checkmate rook bishop; poker casino bluff chips; puzzles jigsaw riddle crossword; dice
        backgammon gamble roll; boardgames monopoly scrabble settlers; roleplaying dungeon quest goblin;
        marbles yoyo spinning toy; billiards snooker cue pocket; darts bullseye dartboard throw; cards bridge
        solitaire deck; arcade pinball pixel pacman; trivia quiz question contest; dolls dollhouse teddy
        plush; lego bricks construction blocks; magic illusion trick conjurer; strategy wargame tactics
        conquest""",
}

TOPICS: dict[str, tuple[tuple[str, ...], ...]] = {
    topic: tuple(tuple(line.split()) for line in text.split(";")) for topic, text in _TOPICS.items()
}

THEMES: tuple[tuple[str, ...], ...] = (
    ("vintage", "antique", "retro", "nostalgic"),
    ("modern", "contemporary", "futuristic", "sleek"),
    ("beginner", "easy", "introduction", "tutorial"),
    ("professional", "expert", "advanced", "masterclass"),
    ("children", "kids", "family", "playful"),
    ("luxury", "premium", "deluxe", "exclusive"),
    ("budget", "cheap", "discount", "bargain"),
    ("handmade", "artisan", "rustic", "homemade"),
)

FILLERS: tuple[str, ...] = tuple(
    """red blue green yellow purple orange black white silver golden small large tiny giant light heavy quick slow
    soft hard bright dark warm cool morning evening summer winter spring autumn northern southern eastern western local
    global quiet loud simple complex round square fresh dry wild calm famous hidden""".split()
)
