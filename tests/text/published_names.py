"""Class names of data sets as they were published, by the kind of thing that each is."""

# Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; its 80 categories.
COCO = {
    "person": ["person"],
    "vehicle": ["bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"],
    "structure": ["fire hydrant", "stop sign"],
    "furniture": ["bench", "chair", "couch", "bed", "dining table", "toilet", "sink"],
    "animal": ["bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"],
    "container": ["backpack", "handbag", "suitcase", "bottle", "wine glass", "cup", "bowl", "vase"],
    "object": ["umbrella", "book"],
    "clothing": ["tie"],
    "toy": ["kite", "teddy bear"],
    "sport": [
        "frisbee", "skis", "snowboard", "sports ball", "baseball bat", "baseball glove", "skateboard", "surfboard",
        "tennis racket",
    ],
    "tool": ["fork", "knife", "spoon", "scissors", "toothbrush"],
    "food": [
        "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
    ],
    "plant": ["potted plant"],
    "device": [
        "traffic light", "parking meter", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven",
        "toaster", "refrigerator", "clock", "hair drier",
    ],
}  # fmt: skip

# Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
CIFAR_100 = {
    "animal": [
        "bear", "beaver", "bee", "beetle", "butterfly", "camel", "caterpillar", "cattle", "chimpanzee", "cockroach", "crab",
        "crocodile", "dinosaur", "dolphin", "elephant", "flatfish", "fox", "hamster", "kangaroo", "leopard", "lion", "lizard",
        "lobster", "mouse", "otter", "porcupine", "possum", "rabbit", "raccoon", "ray", "seal", "shark", "shrew", "skunk",
        "snail", "snake", "spider", "squirrel", "tiger", "trout", "turtle", "whale", "wolf", "worm", "aquarium_fish",
    ],
    "person": ["baby", "boy", "girl", "man", "woman"],
    "food": ["apple", "orange", "pear", "sweet_pepper"],
    "plant": [
        "mushroom", "maple_tree", "oak_tree", "orchid", "palm_tree", "pine_tree",
        "poppy", "rose", "sunflower", "tulip", "willow_tree",
    ],
    "container": ["bottle", "bowl", "can", "cup", "plate"],
    "furniture": ["bed", "chair", "couch", "table", "wardrobe"],
    "device": ["clock", "keyboard", "lamp", "lawn_mower", "telephone", "television"],
    "vehicle": [
        "bicycle", "bus", "motorcycle", "pickup_truck", "rocket", "streetcar", "tank", "tractor", "train",
    ],
    "building": ["castle", "house", "skyscraper"],
    "structure": ["bridge"],
    "nature": ["cloud"],
    "place": ["forest", "mountain", "plain", "road", "sea"],
}  # fmt: skip

# Source: Parkhi et al., "Cats and Dogs", CVPR 2012.
OXFORD_PETS = {
    "animal": [
        "Abyssinian", "american_bulldog", "american_pit_bull_terrier", "basset_hound", "beagle", "Bengal", "Birman", "Bombay",
        "boxer", "British_Shorthair", "chihuahua", "Egyptian_Mau", "english_cocker_spaniel", "english_setter",
        "german_shorthaired", "great_pyrenees", "havanese", "japanese_chin", "keeshond", "leonberger", "Maine_Coon",
        "miniature_pinscher", "newfoundland", "Persian", "pomeranian", "pug", "Ragdoll", "Russian_Blue", "saint_bernard",
        "samoyed", "scottish_terrier", "shiba_inu", "Siamese", "Sphynx", "staffordshire_bull_terrier", "wheaten_terrier",
        "yorkshire_terrier",
    ],
}  # fmt: skip

# Source: Bossard et al., "Food-101: Mining Discriminative Components with Random Forests", ECCV 2014.
FOOD_101 = {
    "food": [
        "apple_pie", "baby_back_ribs", "baklava", "beef_carpaccio", "beef_tartare", "beet_salad", "beignets", "bibimbap",
        "bread_pudding", "breakfast_burrito", "bruschetta", "caesar_salad", "cannoli", "caprese_salad", "carrot_cake", "ceviche",
        "cheese_plate", "cheesecake", "chicken_curry", "chicken_quesadilla", "chicken_wings", "chocolate_cake",
        "chocolate_mousse", "churros", "clam_chowder", "club_sandwich", "crab_cakes", "creme_brulee", "croque_madame",
        "cup_cakes", "deviled_eggs", "donuts", "dumplings", "edamame", "eggs_benedict", "escargots", "falafel", "filet_mignon",
        "fish_and_chips", "foie_gras", "french_fries", "french_onion_soup", "french_toast", "fried_calamari", "fried_rice",
        "frozen_yogurt", "garlic_bread", "gnocchi", "greek_salad", "grilled_cheese_sandwich", "grilled_salmon", "guacamole",
        "gyoza", "hamburger", "hot_and_sour_soup", "hot_dog", "huevos_rancheros", "hummus", "ice_cream", "lasagna",
        "lobster_bisque", "lobster_roll_sandwich", "macaroni_and_cheese", "macarons", "miso_soup", "mussels", "nachos",
        "omelette", "onion_rings", "oysters", "pad_thai", "paella", "pancakes", "panna_cotta", "peking_duck", "pho", "pizza",
        "pork_chop", "poutine", "prime_rib", "pulled_pork_sandwich", "ramen", "ravioli", "red_velvet_cake", "risotto", "samosa",
        "sashimi", "scallops", "seaweed_salad", "shrimp_and_grits", "spaghetti_bolognese", "spaghetti_carbonara", "spring_rolls",
        "steak", "strawberry_shortcake", "sushi", "tacos", "takoyaki", "tiramisu", "tuna_tartare", "waffles",
    ],
}  # fmt: skip

# Source: Nilsback and Zisserman, "Automated Flower Classification over a Large Number of Classes", ICVGIP 2008.
FLOWERS_102 = {
    "plant": [
        "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold", "tiger lily",
        "moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon", "colt's foot", "king protea",
        "spear thistle", "yellow iris", "globe-flower", "purple coneflower", "peruvian lily", "balloon flower",
        "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger", "grape hyacinth", "corn poppy",
        "prince of wales feathers", "stemless gentian", "artichoke", "sweet william", "carnation", "garden phlox",
        "love in the mist", "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower", "great masterwort",
        "siam tulip", "lenten rose", "barbeton daisy", "daffodil", "sword lily", "poinsettia", "bolero deep blue", "wallflower",
        "marigold", "buttercup", "oxeye daisy", "common dandelion", "petunia", "wild pansy", "primula", "sunflower",
        "pelargonium", "bishop of llandaff", "gaura", "geranium", "orange dahlia", "pink-yellow dahlia?", "cautleya spicata",
        "japanese anemone", "black-eyed susan", "silverbush", "californian poppy", "osteospermum", "spring crocus",
        "bearded iris", "windflower", "tree poppy", "gazania", "azalea", "water lily", "rose", "thorn apple", "morning glory",
        "passion flower", "lotus", "toad lily", "anthurium", "frangipani", "clematis", "hibiscus", "columbine", "desert-rose",
        "tree mallow", "magnolia", "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss", "foxglove",
        "bougainvillea", "camellia", "mallow", "mexican petunia", "bromelia", "blanket flower", "trumpet creeper",
        "blackberry lily",
    ],
}  # fmt: skip

# Source: Xian et al., "Zero-Shot Learning - A Comprehensive Evaluation of the Good, the Bad and the Ugly", TPAMI 2019.
AWA2 = {
    "animal": [
        "antelope", "grizzly+bear", "killer+whale", "beaver", "dalmatian", "persian+cat", "horse", "german+shepherd",
        "blue+whale", "siamese+cat", "skunk", "mole", "tiger", "hippopotamus", "leopard", "moose", "spider+monkey",
        "humpback+whale", "elephant", "gorilla", "ox", "fox", "sheep", "seal", "chimpanzee", "hamster", "squirrel", "rhinoceros",
        "rabbit", "bat", "giraffe", "wolf", "chihuahua", "rat", "weasel", "otter", "buffalo", "zebra", "giant+panda", "deer",
        "bobcat", "pig", "lion", "mouse", "polar+bear", "collie", "walrus", "raccoon", "cow", "dolphin",
    ],
}  # fmt: skip

# Source: Fei-Fei et al., "Learning Generative Visual Models from Few Training Examples", CVPR workshop 2004; less
# "Faces_easy" and "cougar_body", which are other crops of the same.
CALTECH_101 = {
    "person": ["Faces", "brain"],
    "animal": [
        "Leopards", "ant", "bass", "beaver", "brontosaurus", "butterfly", "cougar_face", "crab", "crayfish", "crocodile",
        "crocodile_head", "dalmatian", "dolphin", "dragonfly", "elephant", "emu", "flamingo", "flamingo_head", "gerenuk",
        "hawksbill", "hedgehog", "ibis", "kangaroo", "llama", "lobster", "mayfly", "nautilus", "octopus", "okapi", "panda",
        "pigeon", "platypus", "rhino", "rooster", "scorpion", "sea_horse", "starfish", "stegosaurus", "tick", "trilobite",
        "wild_cat",
    ],
    "vehicle": ["Motorbikes", "airplanes", "car_side", "ferry", "helicopter", "ketch", "schooner", "wheelchair"],
    "instrument": ["accordion", "electric_guitar", "euphonium", "grand_piano", "mandolin", "saxophone"],
    "plant": ["bonsai", "joshua_tree", "lotus", "sunflower", "water_lilly"],
    "building": ["minaret", "pagoda"],
    "furniture": ["chair", "windsor_chair"],
    "device": [
        "binocular", "camera", "cannon", "ceiling_fan", "cellphone", "chandelier", "gramophone",
        "headphone", "lamp", "laptop", "metronome",
        "revolver", "watch",
    ],
    "structure": ["buddha", "pyramid", "stop_sign"],
    "tool": ["scissors", "stapler", "wrench"],
    "object": ["anchor", "dollar_bill", "garfield", "menorah", "snoopy", "umbrella", "yin_yang"],
    "container": ["barrel", "cup", "ewer"],
    "food": ["pizza", "strawberry"],
    "sport": ["inline_skate", "soccer_ball"],
}  # fmt: skip
